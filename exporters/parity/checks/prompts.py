"""How masks of prompts are compared: proposal by proposal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.exporters.contract import NoSignal, Tensors
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.exporters.parity.checks.base import Answer, Case, ParityCheck, largest
from tritonvision.exporters.parity.checks.masks import mask_areas
from tritonvision.pictures import size_of

_LOGITS = "low_res_masks"


class Prompts(ParityCheck):
    """Masks that prompts select in the photo."""

    figures = frozenset({"masks", "scores"})

    def samples(self) -> list[Any]:
        """One picture: the encoder takes seconds."""
        return [sample_pictures.photo()]

    def cases(self) -> list[Case]:
        """The family's own questions."""
        self.settings = self.network.questions()
        return super().cases()

    def golden_sample(self) -> Any:
        """The photo, as for the family's questions."""
        return sample_pictures.photo()

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """The first question of the family."""
        return dict(self.network.questions()[0])

    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal when masks cover less than 5 % or more than 95 %, or all prompts select the same."""
        size = size_of(sample_pictures.photo())
        shares = [mask_areas(case.wanted["masks"], size) / (size[0] * size[1]) for case in cases]
        if not all(((0.05 <= share) & (share <= 0.95)).any() for share in shares):
            raise NoSignal("Masks cover nothing or everything; that proves nothing.")
        if len({bytes(case.wanted["masks"][0]) for case in cases}) < 2:
            raise NoSignal("Every prompt selects the same; that proves nothing.")

    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """Proposal by proposal; the logits are the network's own, and have its limit."""
        size = np.array(case.sample.shape[:2])
        if len(got["masks"]) != len(case.wanted["masks"]):
            return len(case.wanted["masks"]), len(case.wanted["masks"]), {}
        pairs = zip(got["masks"], case.wanted["masks"], strict=True)
        figures = {"masks": float(np.max([compare.mask_difference(a, b, size) for a, b in pairs]))}
        logits = largest(got, case.wanted, _LOGITS) / float(np.abs(case.wanted[_LOGITS]).max())
        missing = 0 if logits <= self.tolerance.tensor(_LOGITS) else len(got["masks"])
        return len(got["masks"]), missing, figures | {"scores": largest(got, case.wanted, "scores")}
