"""A question asked once more when its answer is overdue: a process may hang, and another one can answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def first_answer(ask: Callable[[], Awaitable[T]], patience: float) -> T:
    """The first answer of ``ask()``, which is asked a second time where ``patience`` seconds brought none.

    The first try goes on meanwhile: it may only be slow. What is asked must have no side effects. An error counts only
    when no other try can answer any more; a cancelled caller cancels both.
    """
    tries = {asyncio.ensure_future(ask())}
    try:
        done, pending = await asyncio.wait(tries, timeout=patience)
        if not done:
            tries.add(asyncio.ensure_future(ask()))
            done, pending = await asyncio.wait(tries, return_when=asyncio.FIRST_COMPLETED)
            if pending and all(task.exception() for task in done):
                done, _ = await asyncio.wait(pending)
        answered = [task for task in done if not task.cancelled() and task.exception() is None]
        return (answered or list(done))[0].result()
    finally:
        for task in tries:
            task.cancel()
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
