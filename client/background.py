"""An event loop on a thread of its own: runs coroutines for synchronous callers in any thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

from tritonvision.engine.pieces import next_piece
from tritonvision.errors import ServerUnavailable, SetupError

T = TypeVar("T")

_TRIES, _PAUSE = 100, 0.02
_ENDING = 5.0  # seconds for what is cancelled when the loop is closed


class Background:
    """One event loop, started at the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: _Loop | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``, or its error. A KeyboardInterrupt while waiting cancels it.

        Raises:
            ServerUnavailable: the loop was closed meanwhile.
        """
        try:
            loop = self._running()
        except BaseException:
            work.close()
            raise
        return loop.run(work)

    def iterate(self, pieces: AsyncGenerator[T, None]) -> Pieces[T]:
        """Iterates over ``pieces``; closing the iterator closes them."""
        return Pieces(pieces, self._running())

    def close(self) -> None:
        """End the thread; the next call starts another one."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()

    def _running(self) -> _Loop:
        with self._lock:
            if self._loop is None:
                self._loop = _Loop()
            if not self._loop.is_ours:  # threads and connections do not survive a fork
                raise SetupError(
                    "This process was forked from one that uses AutoModel already.",
                    hint="Start it with the method 'spawn', or make the models in the new process alone.",
                )
            return self._loop


class _Loop:
    """A running loop, and what it was asked for that has not ended. Nothing here waits for a lock: the garbage
    collector may end an iterator in any thread, and in the middle of any call.
    """

    def __init__(self) -> None:
        self._loop, self._owner = asyncio.new_event_loop(), os.getpid()
        self._asked: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._serve, name="tritonvision-loop", daemon=True)
        self._thread.start()

    @property
    def is_ours(self) -> bool:
        """Whether it was made in this process, and not before a fork."""
        return self._owner == os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether the caller runs in the loop's thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """See :meth:`Background.run`."""
        future = self.begin(work)
        try:
            return future.result()
        except CancelledError as error:
            raise ServerUnavailable("The connection was closed before the answer came.") from error
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin with ``work``. What the loop does not come to any more is cancelled."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # it is closed
            work.close()
            future = Future()
            future.cancel()
            return future
        self._asked.add(future)
        future.add_done_callback(self._asked.discard)
        if self._loop.is_closed():  # since then: _serve may have looked before this was among what was asked
            future.cancel()
        return future

    def close(self) -> None:
        """End the thread, and with it what runs."""
        if not self.is_ours:
            return
        with suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(_end_tasks())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            for future in [*self._asked]:
                future.cancel()


class Pieces(Iterator[T], Generic[T]):
    """What a stream gives, piece by piece, for a synchronous caller. With its loop it is closed, too."""

    def __init__(self, pieces: AsyncGenerator[T, None], loop: _Loop) -> None:
        self._pieces, self._loop, self._ended = pieces, loop, False

    def __next__(self) -> T:
        piece: tuple[T, ...] = ()
        try:
            if not self._ended:
                piece = self._loop.run(next_piece(self._pieces))
        except BaseException:
            self.close()
            raise
        if not piece:
            self._ended = True
            raise StopIteration
        return piece[0]

    def close(self) -> None:
        """Close the stream, and wait until it is closed, except in the loop's own thread."""
        ending = self._end()
        if ending is not None and not self._loop.is_here:
            with suppress(CancelledError):  # the loop closed, and the stream with it
                ending.result()

    def __del__(self) -> None:
        # without waiting: the collector may run this in a thread that holds what the loop waits for
        self._end()

    def _end(self) -> Future[None] | None:
        """Begin to close the stream, once; None where that was done, or belongs to the process that was forked."""
        ended, self._ended = self._ended, True
        return None if ended or not self._loop.is_ours else self._loop.begin(_close(self._pieces))


async def _end_tasks() -> None:
    """Cancel all that runs in this loop, and wait for its end, but not for ever."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_ENDING)


async def _close(pieces: AsyncGenerator[Any, None]) -> None:
    for _ in range(_TRIES):
        try:
            await pieces.aclose()
        except RuntimeError:  # a piece is still being cancelled
            await asyncio.sleep(_PAUSE)
        else:
            return
