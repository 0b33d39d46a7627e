"""How scores of classes are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import sample_pictures
from tritonvision.exporters.parity.checks.base import SIGNAL, Answer, Case, ParityCheck, largest

_BEST = 5


class Classes(ParityCheck):
    """Scores of classes."""

    figures = frozenset({"scores"})

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """A threshold in the widest gap below the best to the fifth best score: no score lies on it."""
        scores = np.sort(answer()["scores"])[::-1].astype(np.float64)
        gaps = -np.diff(scores[: _BEST + 1])
        if not len(gaps):
            return {"confidence": 0.0}
        widest = int(gaps.argmax())
        return {"confidence": float(scores[widest] + scores[widest + 1]) / 2}

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when the logits of the photo and of noise differ by less than 1000 tolerances."""
        photo, noise = (
            answer(p, {"function": "none"})["scores"]
            for p in (sample_pictures.photo(), sample_pictures.noise(300, 400))
        )
        apart = float(np.abs(photo - noise).max())
        if not apart >= SIGNAL * self.tolerance.tensors["logits"]:
            raise NoSignal(f"The network tells the photo and noise apart by {apart:.3g} only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Every score; what reaches the threshold as a set, but for what lies on it; the best of them first."""
        threshold, within = self.resolved(case.given)["confidence"], self.tolerance.answer("scores")
        wanted, found = case.wanted["scores"], got["class_ids"]
        differing = np.setxor1d(found, case.wanted["class_ids"])
        known = differing[(differing >= 0) & (differing < len(wanted))]
        missing = len(differing) - int((np.abs(wanted[known] - threshold) <= within).sum())
        if not missing:
            missing += int((np.diff(wanted[found]) > within).sum()) + len(found) - len(np.unique(found))
        return len(wanted), missing, {"scores": largest(got, case.wanted, "scores")}
