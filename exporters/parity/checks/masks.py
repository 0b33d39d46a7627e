"""How detections with masks are compared: as sets of boxes, mask against mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from tritonvision.exporters.contract import NoSignal
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
        photo = answer(sample_pictures.photo())
        areas = (photo["boxes"][:, 2:] - photo["boxes"][:, :2]).prod(1)
        share = float((mask_areas(photo["masks"], size_of(sample_pictures.photo())) / np.maximum(areas, 1)).mean())
        if self.weights == "random" and not 0.05 <= share <= 0.95:
            raise NoSignal(f"The random masks fill {share:.0%} of their boxes.")


def mask_areas(masks: Iterable[bytes], size: tuple[int, int]) -> np.ndarray:
    """Pixels of each mask of a picture of ``size`` (height, width), COCO run lengths."""
    from pycocotools import mask

    return np.asarray(mask.area([{"size": list(size), "counts": counts} for counts in masks]), dtype=np.float64)
