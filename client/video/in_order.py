"""Frames answered several at once, and given back in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from tritonvision.client.video.frames import Frame, Frames
from tritonvision.errors import InvalidPicture, Overloaded, PictureTooLarge, TritonVisionError

T = TypeVar("T")

AT_ONCE, AT_ONCE_LIVE = 4, 2  # frames under way; of a live source fewer, since each waits for those before it
_PATIENCE, _PAUSE = 60.0, 0.5  # seconds to wait for a server with too much work, and between two attempts


async def in_order(
    frames: Frames, ask: Callable[[Frame], Awaitable[T]], most: int | None = None, at_once: int | None = None
) -> AsyncGenerator[tuple[Frame, T], None]:
    """Each frame with what ``ask`` answered about it, in order; ``frames`` is closed at the end.

    The next frame is read while others are being answered. Closing the generator cancels what is under way.

    Args:
        most: frames that are answered before it ends; None for all.
        at_once: frames under way; None for :data:`AT_ONCE`, or of a live source :data:`AT_ONCE_LIVE`.

    Raises:
        What reading raised, after the frames before that, and what ``ask`` raised. An error of one picture says which
        frame it was.
    """
    room = at_once or (AT_ONCE_LIVE if frames.live else AT_ONCE)
    reading: asyncio.Task[Frame | None] | None = None
    under_way: deque[tuple[Frame, asyncio.Task[T]]] = deque()
    failure: TritonVisionError | None = None
    left, more = most, True
    try:
        while True:
            if reading is None and more and left != 0 and len(under_way) < room:
                reading = asyncio.create_task(asyncio.to_thread(frames.read))
            pending = {task for task in (reading, under_way[0][1] if under_way else None) if task is not None}
            if not pending:
                break
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                done, reading = reading, None
                try:
                    frame = done.result()
                except TritonVisionError as error:
                    frame, failure = None, error
                if frame is None:
                    more = False
                else:
                    left = None if left is None else left - 1
                    under_way.append((frame, asyncio.create_task(_patiently(ask, frame))))
            elif under_way and under_way[0][1].done():
                frame, answer = under_way.popleft()
                yield frame, answer.result()
    finally:
        frames.close()  # before the tasks: one of them may be waiting for a frame
        tasks = [task for task in (reading, *(task for _, task in under_way)) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if failure is not None:
        raise failure


async def _patiently(ask: Callable[[Frame], Awaitable[T]], frame: Frame) -> T:
    """What ``ask`` answers, once the server has room for it."""
    waited = 0.0
    while True:
        try:
            return await ask(frame)
        except (InvalidPicture, PictureTooLarge) as error:
            raise type(error)(f"Frame {frame.number}: {error.message}", hint=error.hint) from error
        except Overloaded as error:
            pause = error.retry_after or _PAUSE
            if waited + pause > _PATIENCE:
                raise
        await asyncio.sleep(pause)
        waited += pause
