"""How dense maps are compared: pixel by pixel, relative to the largest value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity.checks.base import Answer, Case, ParityCheck, largest


class Map(ParityCheck):
    """Dense maps of the picture's own size; differences relative to the largest value."""

    figures = frozenset({"map"})

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when a map varies by less than 1 % of its largest value."""
        varied = min(float(case.wanted["map"].std() / np.abs(case.wanted["map"]).max()) for case in cases)
        if not varied >= 0.01:
            raise NoSignal(f"The map varies by {varied:.3g} of its largest value only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Pixel by pixel."""
        low, high = (float(v) for v in got["range"])
        values, wanted = low + got["map"] * ((high - low) / 65535), case.wanted["map"]
        if values.shape != wanted.shape:
            return wanted.size, wanted.size, {}
        scale = max(float(np.abs(wanted).max()), 1e-30)
        return wanted.size, 0, {"map": largest({"map": values}, case.wanted, "map") / scale}
