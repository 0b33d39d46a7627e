"""One call of Triton as stages of the request it is for, with what the steps of our server told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tritonvision import stages, step_reports
from tritonvision.stages import Stage


class StepTimes:
    """Collects what steps tell of the calls that run.

    Args:
        read: gives what steps wrote since its last call, see :class:`tritonvision.step_reports.Pipe`.
    """

    def __init__(self, read: Callable[[], bytes]):
        self._read = read
        self._rest = b""
        self._open: dict[str, list[Stage]] = {}

    @contextmanager
    def call(self) -> Iterator[str]:
        """Around a call of Triton: gives the id that its request needs, empty where nobody measures.

        The call becomes a stage ``triton`` of the current timeline; the steps that answered it are its parts.
        """
        timeline = stages.current()
        if timeline is None:
            yield ""
            return
        request_id, began = step_reports.new_id(), time.monotonic_ns()
        self._open[request_id] = []
        try:
            yield request_id
        finally:
            self._collect()
            parts = sorted(self._open.pop(request_id), key=lambda part: part.began)
            timeline.add("triton", began, parts=tuple(parts))

    def _collect(self) -> None:
        """File what was told, each under its call; of calls that nobody waits for any more it is dropped."""
        *lines, self._rest = (self._rest + self._read()).split(b"\n")
        for told in filter(None, map(step_reports.parse, lines)):
            parts = self._open.get(told[0])
            if parts is not None and len(parts) < stages.MOST:
                parts.append(told[1])


class PieceTimes:
    """An answer that comes in pieces, as a stage ``triton``: until the first piece ``prompt``, then ``generation``."""

    def __init__(self) -> None:
        self._timeline, self._began, self._first = stages.current(), time.monotonic_ns(), 0

    def piece(self) -> None:
        """A piece has come."""
        self._first = self._first or time.monotonic_ns()

    def end(self) -> None:
        """The answer has ended, or failed."""
        if self._timeline is None:
            return
        now, parts = time.monotonic_ns(), tuple[Stage, ...]()
        if self._first:
            parts = Stage("prompt", self._began, self._first), Stage("generation", self._first, now)
        self._timeline.add("triton", self._began, now, parts=parts)
