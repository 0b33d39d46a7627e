"""Where the time of one request goes: its stages, whichever process did the work.

Times are nanoseconds of ``time.monotonic_ns()``, a clock that all processes of a Linux machine share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

# Stages of one request that are kept: a grid of points asks a model thousands of times.
MOST = 256
# What a Triton model does in a request, by the beginning of its name; all others are public models in one process.
_KINDS = {"pre--": "pre", "tokens--": "pre", "net--": "network", "post--": "post"}
_OTHER = "model"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one request.

    Attributes:
        name: ``decode``, ``load``, ``queue``, ``triton``, ``pre``, ``network``, ``post``, ``model``, ``prompt``,
            ``generation`` or ``encode``; docs/reliability.md says what each is.
        began, ended: nanoseconds of the monotonic clock.
        model: Triton name of the model that worked, empty outside of Triton.
        parts: stages within this one.
    """

    name: str
    began: int
    ended: int
    model: str = ""
    parts: tuple[Stage, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.ended - self.began) / 1e9


class Timeline:
    """The stages of one request, in the order in which they ended; those over :data:`MOST` are left out.

    Attributes:
        stages: so far.
        traceparent: W3C header that continues the request's trace in another process; empty without a trace.
    """

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.traceparent = ""

    def add(self, name: str, began: int, ended: int = 0, model: str = "", parts: tuple[Stage, ...] = ()) -> None:
        """Add a stage; it ends now where ``ended`` is 0."""
        if len(self.stages) < MOST:
            self.stages.append(Stage(name, began, ended or time.monotonic_ns(), model, parts))

    def each(self) -> Iterator[Stage]:
        """Every stage, and after each what it consists of."""
        for stage in self.stages:
            yield stage
            yield from stage.parts

    def seconds(self) -> dict[str, float]:
        """Seconds of all stages of a name together."""
        found: dict[str, float] = {}
        for stage in self.each():
            found[stage.name] = found.get(stage.name, 0.0) + stage.seconds
        return found


_current: ContextVar[Timeline | None] = ContextVar("timeline", default=None)


def current() -> Timeline | None:
    """The timeline of the request that this task works for; None where nobody measures."""
    return _current.get()


@contextmanager
def measured(timeline: Timeline) -> Iterator[None]:
    """Within the block, and in tasks begun in it, ``timeline`` is :func:`current`."""
    token = _current.set(timeline)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """The block is a stage of the current request, also where it fails; of none where nobody measures."""
    timeline, began = _current.get(), time.monotonic_ns()
    try:
        yield
    finally:
        if timeline is not None:
            timeline.add(name, began)


def kind_of(triton_model: str) -> str:
    """The stage that the work of a Triton model is, by its name."""
    return next((kind for prefix, kind in _KINDS.items() if triton_model.startswith(prefix)), _OTHER)
