"""How detections of the caller's own classes are compared: one class, several, and a long list of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import RANDOM_BOXES, Answer, Case
from tritonvision.exporters.parity.checks.boxes import Boxes

SEVERAL = ("a person", "a red space suit", "helmet", "the flag", "a model of a space shuttle")
# Forty things of COCO; what is looked for with them is mostly not there.
MANY = (
    "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light", "fire hydrant",
    "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra",
    "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball",
    "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle", "wine glass",
)  # fmt: skip
# What is asked about which part of the photo, rows and columns. Encoding a picture takes seconds, the less the narrower
# it is, so each question has one. The last two ask for the best boxes whatever their scores.
_ALL = slice(None)
_QUESTIONS = (
    ((_ALL, _ALL), {"texts": [*SEVERAL], "confidence": 0.25}),
    ((_ALL, slice(180, 280)), {"texts": ["face"], "confidence": 0, "text_threshold": 0, "max_detections": 100}),
    ((slice(60, 170), _ALL), {
        "texts": [*MANY], "confidence": 0, "text_threshold": 0, "iou_threshold": 0.6, "max_detections": 100,
    }),
)  # fmt: skip


class OpenVocabulary(Boxes):
    """Detections of classes that come with the question.

    As sets: what lies on one of the thresholds, or is cut off behind the last, may be missing on either side.
    """

    def cases(self) -> list[Case]:
        """Every question about its picture; those of the family, if it has its own, about the whole photo."""
        photo, found = sample_pictures.photo(), []
        for part, given in [*_QUESTIONS, *(((_ALL, _ALL), given) for given in self.network.questions() if given)]:
            picture = np.ascontiguousarray(photo[part])
            wanted = self.network.predict(picture, self.resolved(given), self.point.role)
            if wanted is None:
                raise ExportFailed("The family has no reference pipeline.")
            found.append(Case(picture, dict(given), wanted))
        return found

    def golden_sample(self) -> Any:
        """A narrow part of the photo: encoding takes the less time the narrower it is."""
        return np.ascontiguousarray(sample_pictures.photo()[:, 180:280])

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """Several classes, the best boxes whatever their scores. Texts that were asked before may be known by heart."""
        texts = ["an astronaut in orange", "a white collar", "the stripes of a flag"]
        return {"texts": texts, "confidence": 0, "text_threshold": 0, "max_detections": 20}

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when nothing is found, or, with random weights, boxes of one class, too few or too many."""
        photo = cases[0].wanted
        count, classes = len(photo["scores"]), len(set(photo["class_ids"].tolist()))
        if not any(len(case.wanted["scores"]) for case in cases):
            raise NoSignal("The network finds nothing on the test pictures; that proves nothing.")
        if self.weights == "random" and (count not in RANDOM_BOXES or classes < 2):
            raise NoSignal(
                f"The random network finds {count} boxes of {classes} classes on the photo, not {RANDOM_BOXES[0]} to "
                f"{RANDOM_BOXES[-1]} of several.",
            )
