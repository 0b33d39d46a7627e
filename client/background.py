"""An event loop on a thread of its own: runs coroutines for synchronous callers in any thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, TypeVar

from tritonvision.engine.pieces import next_piece
from tritonvision.errors import SetupError

T = TypeVar("T")

_TRIES, _PAUSE = 100, 0.02


class Background:
    """One event loop, started at the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, or its error. A KeyboardInterrupt while waiting cancels it."""
        try:
            loop = self._running()
        except BaseException:
            work.close()
            raise
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, pieces: AsyncGenerator[T, None]) -> Generator[T, None, None]:
        """Iterates over ``pieces``; closing the iterator closes them."""
        loop = self._running()
        try:
            while piece := self.run(next_piece(pieces)):
                yield piece[0]
        finally:
            self._end(pieces, loop)

    def close(self) -> None:
        """End the thread; the next call starts another one."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._owner == os.getpid():
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    def _end(self, pieces: AsyncGenerator[Any, None], loop: asyncio.AbstractEventLoop) -> None:
        """Close ``pieces`` in ``loop``; a closed loop has closed them already."""
        with self._lock:
            if self._loop is not loop or self._owner != os.getpid():
                return
            future = asyncio.run_coroutine_threadsafe(_close(pieces), loop)
        # the garbage collector may run this in the loop's own thread, which must not wait for itself
        if threading.current_thread() is not self._thread:
            future.result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop, self._owner = asyncio.new_event_loop(), os.getpid()
                self._thread = threading.Thread(
                    target=_serve, args=(self._loop,), name="tritonvision-loop", daemon=True
                )
                self._thread.start()
            if self._owner != os.getpid():  # threads and connections do not survive a fork
                raise SetupError(
                    "This process was forked from one that uses AutoModel already.",
                    hint="Start it with the method 'spawn', or make the models in the new process alone.",
                )
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _close(pieces: AsyncGenerator[Any, None]) -> None:
    for _ in range(_TRIES):
        try:
            await pieces.aclose()
        except RuntimeError:  # a piece is still being cancelled
            await asyncio.sleep(_PAUSE)
        else:
            return
