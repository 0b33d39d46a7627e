"""What a process remembers of the sequences whose requests it answers, between two of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter

# Inputs that Triton adds to each request of a sequence.
SEQUENCE_ID, SEQUENCE_START, SEQUENCE_END = "SEQUENCE_ID", "SEQUENCE_START", "SEQUENCE_END"
CONTROLS = (SEQUENCE_ID, SEQUENCE_START, SEQUENCE_END)


class Sequences:
    """The state of each sequence, by its id. Triton does not tell when a sequence idled too long, so each look does.

    Args:
        begin: makes the state of a sequence that begins.
        most: states that are kept; the one that was not used for longest goes when there are more.
        idle_seconds: after which a state is dropped.
        clock: seconds, never going back.
    """

    def __init__(
        self, begin: Callable[[], Any], most: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic
    ):
        self._begin, self._most, self._idle_seconds, self._clock = begin, most, idle_seconds, clock
        self._states: dict[int, tuple[Any, float]] = {}  # least recently used first

    def __len__(self) -> int:
        return len(self._states)

    def of(self, tensors: Mapping[str, np.ndarray]) -> Any:
        """The state of the sequence that a request with these inputs belongs to; a new one where it is the first.

        Raises:
            InvalidParameter: the request goes on with a sequence that is not known here (any more): its process was
                replaced, or it idled too long.
        """
        number = _value(tensors, SEQUENCE_ID)
        now = self._clock()
        self._states = {n: kept for n, kept in self._states.items() if now - kept[1] <= self._idle_seconds}
        found = self._states.pop(number, None)
        if _value(tensors, SEQUENCE_START):
            found = (self._begin(), now)
        if found is None:
            raise InvalidParameter(
                f"The sequence {number} is not known here any more.", hint="Begin it again with its first request."
            )
        self._states[number] = (found[0], now)
        while len(self._states) > self._most:
            del self._states[next(iter(self._states))]
        return found[0]

    def end(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Forget the sequence if a request with these inputs is its last."""
        if _value(tensors, SEQUENCE_END):
            self._states.pop(_value(tensors, SEQUENCE_ID), None)


def _value(tensors: Mapping[str, np.ndarray], name: str) -> int:
    return int(tensors[name].reshape(-1)[0])
