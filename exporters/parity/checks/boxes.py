"""How detections are compared: as sets of boxes with classes and scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.checks.base import RANDOM_BOXES, Answer, Case, ParityCheck

_FEW, _MANY = 5, 30
_LOWEST = 0.001


class Boxes(ParityCheck):
    """Detections, with key points where there are some: at the default threshold, and at nearly none."""

    figures = frozenset({"pixels", "scores"})
    settings = ({"confidence": 0.25}, {"confidence": 0.001, "iou_threshold": 0.7, "max_candidates": 30_000})

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """A threshold in the widest gap between the scores of the 5th to the 30th best box: no score lies on it."""
        scores = np.sort(answer(confidence=_LOWEST)["scores"])[::-1].astype(np.float64)
        if len(scores) <= _FEW:
            return {"confidence": _LOWEST if len(scores) else 0.0, "max_detections": 10}
        gaps = -np.diff(scores[_FEW - 1 : _MANY + 1])
        widest = _FEW + int(gaps.argmax())
        return {"confidence": round(float(scores[widest - 1] + scores[widest]) / 2, 7)}

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when nothing is found, or, with random weights, fewer than 10 or more than 60 boxes."""
        if not any(len(case.wanted["scores"]) for case in cases):
            if self.network.may_be_silent:
                return
            raise NoSignal("The network finds nothing on the test pictures; that proves nothing.")
        count = len(answer(sample_pictures.photo())["scores"])
        if self.weights == "random" and count not in RANDOM_BOXES:
            raise NoSignal(
                f"The random network finds {count} boxes on the photo, not {RANDOM_BOXES[0]} to {RANDOM_BOXES[-1]}.",
            )

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """As sets. Raises NoSignal where they differ by more than the limit, and the reference's own answer has random
        boxes without area and of one score: they lie in the padding, which looks the same everywhere, so rounding
        decides which of them suppress which.
        """
        settings = self.resolved(case.given)
        within, most = self.tolerance.answer("scores"), settings["max_detections"]
        wanted = case.wanted | {"image_size": np.array(case.sample.shape[:2])}
        limit = self.tolerance.answer("pixels")
        missing, figures = compare.detections(got, wanted, settings["confidence"], within, most, limit)
        if self.weights == "random" and (missing or figures["pixels"] > limit):
            alike = _alike_without_area(wanted, within)
            if alike:
                raise NoSignal(f"Of the random boxes {alike} lie beside the picture with equal scores.")
        return len(wanted["scores"]), missing, figures


def _alike_without_area(found: Tensors, within: float) -> int:
    """How many boxes without area have the class and, to within ``within``, the score of another one."""
    empty = np.flatnonzero((found["boxes"][:, 2:] <= found["boxes"][:, :2]).any(1))
    scores, class_ids = found["scores"][empty].astype(np.float64), found["class_ids"][empty]
    same = (np.abs(scores[:, None] - scores) <= within) & (class_ids[:, None] == class_ids)
    return int((same.sum(1) > 1).sum())
