"""The base of parity checks: the requests, the least variation of answers, and the differences of two answers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision.ensembles.entry_points import EntryPoint, TextPreprocess
from tritonvision.ensembles.model_configs import TOKENIZER
from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Network, Tensors, Tolerance
from tritonvision.exporters.parity import compare, sample_pictures
from tritonvision.tasks import resolve

SIGNAL = 1000  # the least difference of answers to two samples, in tolerances
RANDOM_BOXES = range(10, 61)  # detections on the photo at the default settings, at least
VIEWS = ("photo", "odd-220x316", "wide-512x260", "no-face-noise-333x97")
TEXTS = (
    "a photo of an astronaut", "a diagram", "two dogs playing in the snow", "x", "",
    "The quick brown fox jumps over the lazy dog, twice: once at dawn & once at dusk; nobody saw it (of course)!",
)  # fmt: skip

_WORDS, _END_OF_WORD = 16, "</w>"

Answer = Callable[..., Tensors]


@dataclass(frozen=True)
class Case:
    """One request and the reference pipeline's answer."""

    sample: Any
    given: Mapping[str, Any]
    wanted: Tensors


def words_of(tokenizer: bytes) -> str:
    """Sixteen words spread over the whole vocabulary of a tokenizer (JSON), the rare ones at its end too: no part of it
    can be lost unseen. Empty where it has no whole words.
    """
    vocabulary: dict[str, int] = json.loads(tokenizer).get("model", {}).get("vocab", {})
    whole = [token.removesuffix(_END_OF_WORD) for token in sorted(vocabulary, key=vocabulary.__getitem__)
             if token.endswith(_END_OF_WORD)]  # fmt: skip
    words = [word for word in whole if len(word) > 2 and word.isascii() and word.isalpha()]
    step = max(len(words) // _WORDS, 1)
    return " ".join(words[step // 2 :: step][:_WORDS])


class ParityCheck(ABC):
    """Compares the answers of one entry point with the reference pipeline's.

    Args:
        weights: ``official``, ``random`` or ``user``: answers of random ones must vary with the input.

    Attributes:
        figures: names of the differences that it measures, each with a limit in
            :class:`~tritonvision.exporters.contract.Tolerance`; one that no case yields is a fault of the check.
        settings: of the task; every sample is run with each.
        golden_format: how the picture of the golden question is encoded.
    """

    figures: frozenset[str]
    golden_format = "JPEG"
    settings: Sequence[Mapping[str, Any]] = ({},)

    def __init__(self, point: EntryPoint, network: Network, tolerance: Tolerance, weights: str):
        self.point, self.network, self.tolerance, self.weights = point, network, tolerance, weights

    def resolved(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of the task."""
        return resolve(self.point.task.parameters, given)

    def samples(self) -> list[Any]:
        """The inputs of the reference pipeline and of the exported one."""
        if isinstance(getattr(self.point, "pre", None), TextPreprocess):
            return list(TEXTS)
        views = sample_pictures.views()
        return [views[name] for name in VIEWS]

    def golden_sample(self) -> Any:
        """What the published model is asked at each load: a picture, RGB uint8, or a text."""
        if isinstance(getattr(self.point, "pre", None), TextPreprocess):
            return words_of(self.network.assets(self.point.role)[TOKENIZER]) or TEXTS[-1]
        return sample_pictures.large()

    def golden_settings(self, answer: Answer) -> dict[str, Any]:
        """The settings of that question; ``answer(**settings)`` tells what is said to it."""
        return {}

    def cases(self) -> list[Case]:
        """Every request with the reference pipeline's answer. Raises ExportFailed without any."""
        recorded = [Case(*case) for case in self.network.golden()]
        if recorded:
            return recorded
        found = []
        for given in self.settings:
            for sample in self.samples():
                answer = self.network.predict(sample, self.resolved(given), self.point.role)
                if answer is None:
                    raise ExportFailed("The family has neither a reference pipeline nor recorded answers.")
                found.append(Case(sample, dict(given), answer))
        return found

    @abstractmethod
    def demand_signal(self, answer: Answer, cases: Sequence[Case]) -> None:
        """Raise NoSignal unless the answers differ from each other: constant ones would pass any comparison."""

    @abstractmethod
    def compare(self, got: Tensors, case: Case) -> tuple[int, int, dict[str, float]]:
        """How many answers were compared, how many have no partner, and the largest differences by name."""

    def run(self, answer: Answer) -> tuple[int, int, dict[str, float]]:
        """:meth:`compare` over all cases. Raises ExportFailed when nothing was compared, or not everything."""
        cases = self.cases()
        self.demand_signal(answer, cases)
        count, missing, worst = self.compare_all(answer, cases)
        if not count and not missing and self.network.may_be_silent:
            return 0, 0, dict.fromkeys(self.figures, 0.0)  # the pipeline found nothing either
        if not missing and (not count or worst.keys() != self.figures):
            raise ExportFailed(
                f"The parity check of {self.point.name} compared {count} answers by {sorted(worst)}, "
                f"not by {sorted(self.figures)}."
            )
        return count, missing, worst

    def compare_all(self, answer: Answer, cases: Sequence[Case]) -> tuple[int, int, dict[str, float]]:
        """:meth:`compare` over ``cases``, whatever comes of it."""
        compared = [self.compare(answer(case.sample, case.given), case) for case in cases]
        names = dict.fromkeys(name for _, _, figures in compared for name in figures)
        worst = {name: float(np.max([f[name] for _, _, f in compared if name in f])) for name in names}  # NaN wins
        return sum(part[0] for part in compared), sum(part[1] for part in compared), worst


def largest(got: Tensors, wanted: Tensors, *names: str) -> float:
    """The largest difference of the outputs ``names``: NaN when any is, infinite where shapes differ, 0 of nothing."""
    return float(np.max([compare.largest(got[name], wanted[name]) for name in names]))
