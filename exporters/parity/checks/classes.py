"""How scores of classes are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import SIGNAL, Answer, Case, ParityCheck, largest


class Classes(ParityCheck):
    """Scores of classes."""

    figures = frozenset({"scores"})

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """A classifier that answers every picture alike would pass any comparison."""
        photo, noise = (
            answer(p, {"function": "none"})["scores"]
            for p in (sample_pictures.photo(), sample_pictures.noise(300, 400))
        )
        apart = float(np.abs(photo - noise).max())
        if not apart >= SIGNAL * self.tolerance.tensors["logits"]:
            raise NoSignal(f"The network tells the photo and noise apart by {apart:.3g} only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Every score; what reaches the threshold as a set, but for what lies on it."""
        threshold, within = self.resolved(case.given)["confidence"], self.tolerance.answer("scores")
        differing = np.setxor1d(got["class_ids"], case.wanted["class_ids"])
        missing = int((np.abs(case.wanted["scores"][differing] - threshold) > within).sum())
        return len(case.wanted["scores"]), missing, {"scores": largest(got, case.wanted, "scores")}
