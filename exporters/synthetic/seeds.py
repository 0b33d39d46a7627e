"""Random weights of the first seed that carries signal; without signal a comparison would prove nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import NoSignal, Weights
from tritonvision.python_backend.runtime.sessions import release_free_memory

SEEDS = 10  # how many are tried
T = TypeVar("T")


def with_signal(attempt: Callable[[Weights], T], weights: Weights, notice: Callable[[str], None]) -> T:
    """``attempt(weights)``, repeated with the next seed while random weights carry no signal.

    Args:
        attempt: raises NoSignal where it finds that the weights carry none.
        notice: called with a sentence for each seed that is skipped.

    Raises:
        ExportFailed: none of :data:`SEEDS` seeds carries signal; or what ``attempt`` raises.
    """
    if weights.kind != "random":
        return attempt(weights)
    last = weights.seed + SEEDS - 1
    for seed in range(weights.seed, last + 1):
        try:
            return attempt(replace(weights, seed=seed))
        except NoSignal as error:
            reason = error.with_traceback(None)  # its frames would keep the network while the next one is built
            gc.collect()
            release_free_memory()
            if seed < last:
                notice(f"Random weights of seed {seed} prove nothing, seed {seed + 1} is tried: {error.message}")
    raise ExportFailed(
        f"Random weights of the seeds {weights.seed} to {last} prove nothing: {reason.message}",
        hint="Start from another seed with --seed.",
    ) from reason
