"""How detections with masks are compared: as sets of boxes, mask against mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import Answer, Case
from tritonvision.exporters.parity.checks.boxes import Boxes
from tritonvision.pictures import size_of


class Masks(Boxes):
    """Detections with masks."""

    figures = frozenset({"pixels", "scores", "masks"})

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal as for boxes, and when random masks fill less than 5 % or more than 95 % of them."""
        super().demand_signal(answer, cases)
        if self.weights != "random":
            return
        photo = answer(sample_pictures.photo())
        areas = (photo["boxes"][:, 2:] - photo["boxes"][:, :2]).prod(1)
        share = float((mask_areas(photo["masks"], size_of(sample_pictures.photo())) / np.maximum(areas, 1)).mean())
        if not 0.05 <= share <= 0.95:
            raise NoSignal(f"The random masks fill {share:.0%} of their boxes.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """As boxes. Raises NoSignal where one pixel of the smallest random mask is more than a difference over the
        limit: rounding may turn one, and of trained weights no mask is that small.
        """
        count, missing, figures = super().compare(got, case)
        limit = self.tolerance.answer("masks")
        if self.weights == "random" and limit < figures.get("masks", 0.0):
            areas = mask_areas(case.wanted["masks"], size_of(case.sample))
            smallest = areas[areas > 0].min(initial=np.inf)
            if figures["masks"] * smallest < 1.5:  # a whole number of pixels, but for rounding
                raise NoSignal(f"The smallest random mask has {smallest:.0f} pixels, and {limit:g} of them is not one.")
        return count, missing, figures


def mask_areas(masks: Iterable[bytes], size: tuple[int, int]) -> np.ndarray:
    """Pixels of each mask of a picture of ``size`` (height, width), COCO run lengths."""
    from pycocotools import mask

    return np.asarray(mask.area([{"size": list(size), "counts": counts} for counts in masks]), dtype=np.float64)
