"""How embeddings are compared: element by element, in units of their spread."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity.checks.base import SIGNAL, Answer, Case, ParityCheck, largest


class Embeddings(ParityCheck):
    """Vectors; their differences count in units of their spread over the samples."""

    figures = frozenset({"embeddings"})

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when the vectors of the samples spread by less than 1000 tolerances."""
        vectors = np.stack([case.wanted["embeddings"] for case in cases])
        self._spread = float(vectors.std(0).mean())
        if not self._spread >= SIGNAL * self.tolerance.tensors["embeddings"]:
            raise NoSignal(f"The embeddings spread by {self._spread:.3g} only; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Element by element."""
        return 1, 0, {"embeddings": largest(got, case.wanted, "embeddings") / self._spread}
