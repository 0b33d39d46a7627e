"""How long the networks of a model take for one sample, as they were exported and as a variant, one after the other."""

from __future__ import annotations

import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from tritonvision.ensembles.entry_points import Chain, EntryPoint

if TYPE_CHECKING:
    from tritonvision.ensembles.in_process import LocalChat, LocalComposition, LocalNet, LocalPipeline, Tensors

    Opened = Mapping[str, LocalPipeline | LocalComposition | LocalChat]

ROUNDS, RUNS = 3, 2


def milliseconds(
    points: Sequence[EntryPoint], base: Opened, other: Opened, inputs: Mapping[str, Sequence[Tensors]],
    roles: Collection[str],
) -> tuple[float, float]:  # fmt: skip
    """Milliseconds of one sample through the networks ``roles``: of ``base`` and of ``other``.

    The two alternate, so that a machine that is busy for a moment is so for both; of each the median counts. The first
    run of each turn is not counted: threads of ONNX Runtime spin for a while after its own.

    Args:
        inputs: what a network reads, by its role, batch axis first; the first of each is taken.
    """
    pairs = networks(points, base), networks(points, other)
    found = [0.0, 0.0]
    for role in roles:
        asked = {name: value[:1] for name, value in inputs[role][0].items()}
        times: tuple[list[float], list[float]] = [], []
        for _ in range(ROUNDS):
            for nets, taken in zip(pairs, times, strict=True):
                taken += [_seconds(nets[role], asked) for _ in range(1 + RUNS)][1:]
        for i, taken in enumerate(times):
            found[i] += 1000 * statistics.median(taken)
    return found[0], found[1]


def networks(points: Sequence[EntryPoint], opened: Opened) -> dict[str, LocalNet]:
    """The networks of entry points that are open in this process, by role."""
    found: dict[str, LocalNet] = {}
    for point in points:
        local = opened[point.role]
        found |= {point.role: local} if isinstance(point, Chain) else local.nets  # type: ignore[union-attr,dict-item]
    return found


def _seconds(net: LocalNet, asked: Mapping) -> float:
    started = time.perf_counter()
    net.tensors(asked)
    return time.perf_counter() - started
