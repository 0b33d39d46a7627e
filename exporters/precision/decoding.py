"""How a decoder in reduced precision is compared with fp32's: which token it finds likeliest, and how long it takes.

Answers that are written freely part at the first token that differs, and say nothing from there on. So both read the
same answer, that of fp32, and each place counts alone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tritonvision.ensembles.in_process import LocalChat
from tritonvision.errors import ExportFailed
from tritonvision.exporters.precision.gate import AGREEMENT, GateResult, Imprecise
from tritonvision.exporters.precision.measures import base
from tritonvision.exporters.precision.measures.texts import Chat
from tritonvision.tasks import LOW, about_picture

TRIES = 6  # decoders that are written to find the layers to blame, each of which answers anew
TOKENS = 200  # places that are compared
_EACH = 100  # of one answer
_LEAST = 100
_PAST, _ROUNDS, _STEPS = 200, 3, 8  # of what is timed


class _Questions(Chat):
    """One view of each picture is read, so there can be as many as short answers need."""

    most = 64


class Trial:
    """What fp32 answers, asked once, for as many candidates as come.

    Args:
        pictures: RGB uint8 ``[h,w,3]`` to ask about; None takes drawn ones.
    """

    def __init__(self, local: LocalChat, pictures: Sequence[np.ndarray] | None = None):
        self._local, self._pictures = local, pictures

    def check(self, candidate: LocalChat, name: str) -> GateResult:
        """The share of places at which both find the same token likeliest.

        Raises:
            Imprecise: it misses the bar.
            ExportFailed: the answers are too short to prove anything.
        """
        same = count = 0
        for sample, answer in self._answers:
            found = candidate.likeliest(sample, answer)
            same, count = same + sum(a == b for a, b in zip(found, answer, strict=True)), count + len(answer)
        if count < _LEAST:
            raise ExportFailed(
                f"The model writes {count} tokens about the pictures, at least {_LEAST} must be compared.",
                hint="Bring pictures of the kind that the model is for: --calibrate FOLDER.",
            )
        told = "The share of tokens of an answer that it finds likeliest as fp32 does"
        finding = base.at_least("argmax", base.share(same, count), base.SAME, told)
        if not finding.passes:
            raise Imprecise(name, [finding])
        return GateResult({finding.name: finding.value}, AGREEMENT)

    @cached_property
    def _answers(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Questions and the greedy answers to them: at each place the token that fp32 finds likeliest.

        Of each picture one view is read: it is the decoder that is compared.
        """
        found: list[tuple[dict[str, Any], list[int]]] = []
        for question in _Questions(self._local.point).questions(self._pictures):
            sample = question.sample | {"messages": about_picture("What is in this picture?", LOW)}
            found.append((sample, self._local(sample, {"max_new_tokens": _EACH})["token_ids"].tolist()))
            if sum(len(answer) for _, answer in found) >= TOKENS:
                break
        return found


def milliseconds(local: LocalChat, other: LocalChat) -> tuple[float, float]:
    """Milliseconds of one token behind 200: of both, which take turns; of each the median counts."""
    taken: tuple[list[float], list[float]] = [], []
    for _ in range(_ROUNDS):
        for one, seconds in zip((local, other), taken, strict=True):
            step = one.steps(_PAST)
            for number in range(_STEPS + 1):
                began = time.perf_counter()
                next(step)
                if number:  # the first wakes the threads of the session
                    seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken[0]), 1000 * statistics.median(taken[1])
