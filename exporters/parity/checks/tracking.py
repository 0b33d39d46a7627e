"""How objects that are followed through a stream are compared: frame by frame, object by object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.checks.base import Answer, Case, ParityCheck, largest
from tritonvision.exporters.parity.checks.masks import mask_areas

_FRAMES = 3  # the encoder takes seconds for each


class Tracking(ParityCheck):
    """Masks of what is prompted on the first frame of a stream, and followed through the next."""

    figures = frozenset({"masks", "scores"})

    def samples(self) -> list[Any]:
        """One stream."""
        return [frames(_FRAMES)]

    def cases(self) -> list[Case]:
        """The family's own questions, about the first frame."""
        self.settings = self.network.questions()
        return super().cases()

    def golden_sample(self) -> Any:
        """The first frame: one more is another request."""
        return frames(1)[0]

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """The first question of the family."""
        return dict(self.network.questions()[0])

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when masks cover less than 1 % or more than 99 %, or two are the same: of two objects, of one
        on two frames, or of two questions.
        """
        for case in cases:
            size = case.sample[0].shape[:2]
            shares = mask_areas(case.wanted["masks"], size) / (size[0] * size[1])
            if not ((0.01 <= shares) & (shares <= 0.99)).all():
                raise NoSignal("Masks cover nothing or everything; that proves nothing.")
            if len({bytes(mask) for mask in case.wanted["masks"]}) < len(case.wanted["masks"]):
                raise NoSignal("Objects have the same mask, or do not move; that proves nothing.")
        if len({bytes(case.wanted["masks"][0]) for case in cases}) < len(cases):
            raise NoSignal("Every prompt selects the same; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Object by object of every frame."""
        count = len(case.wanted["masks"])
        if got["object_ids"].tolist() != case.wanted["object_ids"].tolist():
            return count, count, {}
        size = np.array(case.sample[0].shape[:2])
        pairs = zip(got["masks"], case.wanted["masks"], strict=True)
        masks = float(np.max([compare.mask_difference(ours, theirs, size) for ours, theirs in pairs]))
        return count, 0, {"masks": masks, "scores": largest(got, case.wanted, "scores")}


def frames(count: int) -> list[np.ndarray]:
    """Frames of a stream, RGB uint8: a window that wanders over the photo."""
    photo = sample_pictures.photo()
    height, width = photo.shape[:2]
    return [
        np.ascontiguousarray(photo[4 * i : height - 80 + 4 * i, 3 * i : width - 80 + 3 * i]) for i in range(count)
    ]
