"""A source without an end: its newest frame, and a new connection when it was lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tritonvision.client.video.frames import USUAL_RATE, Frame, Frames, decoded, pixels_of
from tritonvision.errors import TritonVisionError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame

_PAUSE = 1.0  # seconds between two attempts to connect again
_CLOSING = 1.0  # seconds that closing waits for the thread, which may be waiting for the network


class LiveFrames(Frames):
    """The newest frame of a source each time; those that came meanwhile are skipped.

    A thread of its own reads the source, so that none of it queues up. When the source is lost the thread tries to open
    it again once a second, until that works or this is closed.

    Args:
        name: of the source.
        container: the source, open.
        reopen: opens it again.
        say: told in one sentence when it is lost, and when it is back.
    """

    live, total = True, None

    def __init__(
        self, name: str, container: InputContainer, reopen: Callable[[], InputContainer], say: Callable[[str], None]
    ):  # fmt: skip
        self.name, self._reopen, self._say = name, reopen, say
        self.rate = _rate(container)
        self._changed = threading.Condition()
        self._newest: tuple[int, float, VideoFrame] | None = None
        self._count, self._given = 0, 0
        self._failure: Exception | None = None
        self._closed = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(container,), name="tritonvision-live", daemon=True)
        self._thread.start()

    @property
    def skipped(self) -> int:
        with self._changed:
            return self._count - self._given - (self._newest is not None)

    def read(self) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._failure or self._closed.is_set())
            if self._closed.is_set():
                return None
            if self._newest is None:
                assert self._failure is not None, "else it would wait"
                raise self._failure
            number, seconds, frame = self._newest
            self._newest = None
            self._given += 1
        return Frame(number, seconds, pixels_of(frame))

    def close(self) -> None:
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
        self._thread.join(_CLOSING)

    def _run(self, container: InputContainer) -> None:
        try:
            self._follow(container)
        except Exception as error:  # the boundary of the thread: whoever reads would wait for ever
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _follow(self, container: InputContainer | None) -> None:
        """Take frames, and connect again, until this is closed."""
        while container is not None:
            try:
                self._receive(container)
            finally:
                container.close()
            if self._closed.is_set():
                return
            self._say(f"{self.name} was lost; trying again every second.")
            lost = time.monotonic()
            container = self._connected()
            if container is not None:
                self._say(f"{self.name} is back after {time.monotonic() - lost:.0f} s.")

    def _receive(self, container: InputContainer) -> None:
        """Take frames until the source is lost, or this is closed."""
        for frame in decoded(_packets(container), lambda _: None):
            with self._changed:
                if self._closed.is_set():
                    return
                self._newest = self._count, time.monotonic() - self._began, frame
                self._count += 1
                self._changed.notify_all()

    def _connected(self) -> InputContainer | None:
        """The source, open again; None when this was closed before."""
        while not self._closed.wait(_PAUSE):
            with suppress(TritonVisionError):
                return self._reopen()
        return None


def _packets(container: InputContainer) -> Iterator[Any]:
    from av.error import FFmpegError

    from tritonvision.client.video.opening import picture_stream

    with suppress(FFmpegError):  # it ends, or is silent for too long: the same to us
        yield from container.demux(picture_stream(container))


def _rate(container: InputContainer) -> float:
    from tritonvision.client.video.opening import picture_stream

    stream = picture_stream(container)
    assert stream is not None, "open_video refuses what has none"
    return float(stream.average_rate or stream.guessed_rate or USUAL_RATE)
