"""How detections in reduced precision are compared with fp32's: box by box, and by mAP over labelled pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.parity import compare
from tritonvision.exporters.parity.checks.open_vocabulary import MANY, SEVERAL
from tritonvision.exporters.precision import labelled
from tritonvision.exporters.precision.labelled import Coco
from tritonvision.exporters.precision.measures.base import (
    SAME,
    Accuracy,
    Answer,
    Finding,
    Measure,
    Question,
    at_least,
    share,
)
from tritonvision.tasks import MASK_FORMAT

OVERLAP = 0.9  # IoU of a box, or a mask, with its partner
DRIFT = 0.1  # by which scores of partners may differ
_POINTS = 0.05  # of the longer side of a box: how far key points of partners may be apart
_CERTAIN = "confidence"


class Boxes(Measure):
    """Detections, with key points where there are some.

    What scores over the task's default threshold on one side, fp32 or the other, must have a partner on the other side:
    of the same class, IoU at least 0.9, a score that differs by 0.1 at most. So one that scores just over the threshold
    here and just under it there is the same answer, and one that fp32 never found counts against the other side.
    Where two boxes of nearly one score overlap, which of them suppresses the other is a matter of rounding: the partner
    may be one that the suppression took.
    """

    accuracies = {"map": Accuracy("mAP", 5)}

    def question(self, picture: np.ndarray) -> Question:
        """At a threshold that leaves room for partners below it; open vocabularies look for a few things."""
        given = {_CERTAIN: max(self.setting(_CERTAIN) - DRIFT, 0.0)}
        if any(p.name == "texts" for p in self.point.task.parameters):
            given |= {"texts": [*SEVERAL, *MANY[:10]]}
        return Question(picture, given)

    def observe(self, answer: Answer, questions: Sequence[Question]) -> list[tuple[Tensors, Callable[[], Tensors]]]:
        """The detections, and how to have those of the same question when nothing is suppressed: it is seldom asked."""

        def ask(question: Question, **changed: Any) -> Tensors:
            found = answer(question.sample, {**question.given, **changed})
            return {**found, "image_size": np.array(question.sample.shape[:2])}

        free = {"iou_threshold": 1.0, "max_detections": 3000}
        return [(ask(question), functools.cache(functools.partial(ask, question, **free))) for question in questions]

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``matched``: the share of detections over the threshold, of both sides, that have a partner."""
        over, count, lonely = self.setting(_CERTAIN), 0, 0
        for ours, theirs in zip(base, found, strict=True):
            for (rows, _), (others, every) in ((ours, theirs), (theirs, ours)):
                sure = np.flatnonzero(rows["scores"] > over)
                alone = [row for row in sure.tolist() if not has_partner(rows, row, others)]
                count += len(sure)
                lonely += sum(not has_partner(rows, row, every()) for row in alone)
        what = f"Of the detections over {over:g}, the share that fp32 and this precision both find"
        return count, [at_least("matched", share(count - lonely, count), SAME, what)]

    def labelled(self, folder: Path) -> Coco:
        """COCO's JSON beside pictures."""
        return labelled.coco(folder, self.labels, masks="mask_map" in self.accuracies)

    def accuracy(self, answer: Answer, data: Coco) -> dict[str, float]:
        """COCO's mAP at IoU 0.5 to 0.95 of at most 100 detections a picture, of masks too where there are any; with
        ``50`` behind the name that at IoU 0.5 alone.
        """
        given: dict[str, Any] = {_CERTAIN: 0.001, "max_detections": 100}
        if any(p.name == "texts" for p in self.point.task.parameters):
            given["texts"] = list(data.names)
        if MASK_FORMAT in self.point.task.parameters:
            given["mask_format"] = "rle"
        found = [(image, answer(data.picture(image), given)) for image in data.images]
        figures = {}
        for name in self.accuracies:
            figures[name], figures[f"{name}50"] = data.mean_precision(found, masks=name == "mask_map")
        return figures


class Masks(Boxes):
    """Detections with masks, which count as the boxes do: IoU at least 0.9."""

    accuracies = {"map": Accuracy("mAP of boxes", 5), "mask_map": Accuracy("mAP of masks", 5)}


def has_partner(side: Tensors, row: int, other: Tensors) -> bool:
    """Whether one detection of ``side`` is among ``other``, see :class:`Boxes`."""
    near = np.flatnonzero(
        (other["class_ids"] == side["class_ids"][row]) & (np.abs(other["scores"] - side["scores"][row]) <= DRIFT)
    )
    near = near[ious(side["boxes"][row], other["boxes"][near]) >= OVERLAP]
    if "keypoints" in side and len(near):
        box = side["boxes"][row]
        apart = np.abs(other["keypoints"][near] - side["keypoints"][row]).max(axis=(1, 2))
        near = near[apart <= _POINTS * float((box[2:] - box[:2]).max())]
    if "masks" in side:
        wanted, size = side["masks"][row], side["image_size"]
        return any(compare.mask_difference(other["masks"][i], wanted, size) <= 1 - OVERLAP for i in near)
    return len(near) > 0


def ious(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of one box, corners ``[4]``, with each of ``[n,4]``: ``[n]``."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    both = sides.clip(0).prod(1)
    areas = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - both
    return np.divide(both, areas, out=np.zeros(len(others)), where=areas > 0)
