"""How masks of prompts and gaze in reduced precision are compared with fp32's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.precision.measures.base import (
    SAME,
    Answer,
    Finding,
    Measure,
    Question,
    at_least,
    at_most,
    share,
)
from tritonvision.exporters.precision.measures.boxes import OVERLAP

_DEGREES = 0.5
_PARTS = (0.1, 0.5), (0.4, 0.9)  # shares of a frame's sides between which a box lies


class Prompts(Measure):
    """Masks that prompts select, proposal by proposal."""

    most = 2  # the encoder takes seconds a picture

    def questions(self, given: Sequence[np.ndarray] | None = None) -> list[Question]:
        """Of each picture: a point in its middle, a box around its middle half, two points of which one is off."""
        return [
            Question(question.sample, prompt)
            for question in super().questions(given)
            for prompt in _prompts(*question.sample.shape[:2])
        ]

    def observe(self, answer: Answer, questions: Sequence[Question]) -> list[tuple[Any, np.ndarray]]:
        """The masks, and the size of their picture."""
        return [(answer(q.sample, q.given)["masks"], np.array(q.sample.shape[:2])) for q in questions]

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``masks``: the share of proposals whose IoU with fp32's is at least 0.9."""
        count, same = 0, 0
        for (ours, size), (theirs, _) in zip(base, found, strict=True):
            count += max(len(ours), len(theirs))
            pairs = zip(ours, theirs, strict=False)
            same += sum(compare.mask_difference(theirs, ours, size) <= 1 - OVERLAP for ours, theirs in pairs)
        what = f"The share of masks whose IoU with those of fp32 is at least {OVERLAP:g}"
        return count, [at_least("masks", share(same, count), SAME, what)]


def _prompts(height: int, width: int) -> list[dict[str, Any]]:
    return [
        {"points": [[width * 0.5, height * 0.5]]},
        {"box": [width * 0.25, height * 0.25, width * 0.75, height * 0.75]},
        {"points": [[width * 0.4, height * 0.4], [width * 0.9, height * 0.9]], "point_labels": [1, 0]},
    ]


class Tracking(Prompts):
    """Masks of what is followed through a short stream: a window that wanders over a picture."""

    def questions(self, given: Sequence[np.ndarray] | None = None) -> list[Question]:
        """Of each picture three frames, with two boxes in the first."""
        found = []
        for question in Measure.questions(self, given):
            height, width = (int(0.8 * side) for side in question.sample.shape[:2])
            frames = [
                np.ascontiguousarray(question.sample[step : step + height, step : step + width])
                for step in (0, height // 40, height // 20)
            ]
            boxes = [[width * left, height * left, width * right, height * right] for left, right in _PARTS]
            found.append(Question(frames, {"boxes": boxes}))
        return found

    def observe(self, answer: Answer, questions: Sequence[Question]) -> list[tuple[Any, np.ndarray]]:
        """The masks of all frames, and the size of one."""
        return [(answer(q.sample, q.given)["masks"], np.array(q.sample[0].shape[:2])) for q in questions]


class Gaze(Measure):
    """Angles of faces. The faces are found by another model, which stays as it is."""

    def pictures(self) -> Sequence[np.ndarray]:
        """Twenty-four views of a face."""
        views = sample_pictures.views()
        face = views["photo"][:300, 100:350]
        parts = [face[i:, j : 250 - j] for i in (0, 10, 20, 30) for j in (0, 6, 12)]
        return [np.ascontiguousarray(turned) for part in parts for turned in (part, part[:, ::-1])]

    def question(self, picture: np.ndarray) -> Question:
        """The whole picture is one face: drawn and cut ones may not be found."""
        return Question(picture, {"detect_faces": False})

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``degrees``: the mean difference of yaw and pitch."""
        apart = [
            np.abs(np.degrees(np.concatenate([theirs[n] - ours[n] for n in ("yaw", "pitch")])))
            for ours, theirs in zip(base, found, strict=True)
        ]
        mean = float(np.mean(np.concatenate(apart))) if apart else float("nan")
        return len(apart), [at_most("degrees", mean, _DEGREES, "The mean difference of angles, in degrees,")]
