"""How gaze is compared: face by face, in the order of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import SIGNAL, Answer, Case, ParityCheck, largest


class Gaze(ParityCheck):
    """Faces and the angles of their gaze."""

    figures = frozenset({"pixels", "scores", "degrees"})

    def samples(self) -> list[Any]:
        """One face, three, and none."""
        views = sample_pictures.views()
        return [views[name] for name in ("photo", "three-faces-749x300", "odd-220x316", "no-face-noise-333x97")]

    def cases(self) -> list[Case]:
        """With a detector and without."""
        self.settings = self.network.questions()
        return super().cases()

    def golden_sample(self) -> Any:
        """One face."""
        return sample_pictures.photo()

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when the angles of all faces lie within 1000 tolerances."""
        for name in ("yaw", "pitch"):
            angles = np.degrees(np.concatenate([case.wanted[name] for case in cases]))
            if len(angles) < 3 or not np.ptp(angles) >= SIGNAL * self.tolerance.answer("degrees"):
                raise NoSignal("All faces look the same way; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Face by face, in the order of the detector; key points count among the pixels."""
        count = len(case.wanted["yaw"])
        if len(got["yaw"]) != count:
            return count, max(count, 1), {}
        if not count:
            return 0, 0, {}
        return count, 0, {
            "pixels": largest(got, case.wanted, "boxes", "keypoints"),
            "scores": largest(got, case.wanted, "scores"),
            "degrees": float(np.degrees(largest(got, case.wanted, "yaw", "pitch"))),
        }
