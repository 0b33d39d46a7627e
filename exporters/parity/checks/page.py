"""How pages of text are compared: region by region, on print, turned print and a photo of print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import text_pages
from tritonvision.exporters.parity.checks.base import Answer, Case, ParityCheck, largest

# Regions that random weights must find on each printed page, and how many of them different: words, or lines where
# these are not divided.
_WORDS, _LINES = (20, 8), (8, 5)


class PageText(ParityCheck):
    """Blocks, lines and words with their places and texts, and the page's text as a whole."""

    figures = frozenset({"words", "pixels", "scores"})
    golden_format = "PNG"

    def samples(self) -> list[Any]:
        """A page, the page turned by three degrees, a photo of it; a page without a word, a picture of one pixel."""
        page = text_pages.page()
        blank = np.full((300, 420, 3), 255, np.uint8)
        return [page, text_pages.turned(page), text_pages.photographed(page), blank, blank[:1, :1]]

    def golden_sample(self) -> Any:
        """The upper half of a page."""
        return np.ascontiguousarray(text_pages.page()[:430])

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when a printed page has no words, or, with random weights, few different ones."""
        printed = [parts(case.wanted) for case in cases[:3]]
        if not printed[0]:
            raise NoSignal("The networks find no word on a printed page; that proves nothing.")
        if self.weights != "random":
            return
        least = _WORDS if any((case.wanted["parents"] >= 0).any() for case in cases) else _LINES
        for words in printed:
            different = len(set(words) - {b""})
            if len(words) < least[0] or different < least[1]:
                raise NoSignal(
                    f"The random networks find {len(words)} words on a page, {different} of them different.",
                )

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Row by row: both sides have one order."""
        count = len(case.wanted["texts"])
        same = all(np.array_equal(got[name], case.wanted[name]) for name in ("class_ids", "parents", "image_size"))
        if not same:
            return count, max(count, 1), {}
        unlike = [got[name] != case.wanted[name] for name in ("texts", "text")]
        figures = {"words": float(sum(differing.sum() for differing in unlike))}
        if count:
            figures["pixels"] = largest(got, case.wanted, *({"boxes", "polygons"} & case.wanted.keys()))
            figures["scores"] = largest(got, case.wanted, "scores")
        return count, 0, figures


def parts(page: Tensors) -> list[bytes]:
    """The texts of the smallest regions of a page, which no other region is a part of."""
    return [text for row, text in enumerate(page["texts"].tolist()) if row not in page["parents"]]
