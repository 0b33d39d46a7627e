"""An overdue answer is asked for a second time; whichever try answers first counts, and errors only when none does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tritonvision.engine.second_try import first_answer


class Tries:
    """Plays what each try does: seconds until it ends, and its answer or error."""

    def __init__(self, *ends: tuple[float, str | Exception]):
        self._ends, self.begun, self.cancelled = ends, 0, 0

    async def ask(self) -> str:
        seconds, end = self._ends[self.begun]
        self.begun += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(end, Exception):
            raise end
        return end


async def settled(condition: Callable[[], bool]) -> bool:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)
    return True


HANGS = 3600.0


@pytest.mark.parametrize(
    ("ends", "answer", "begun", "cancelled"),
    [
        ([(0, "first")], "first", 1, 0),
        ([(HANGS, ""), (0, "second")], "second", 2, 1),
        ([(0.1, "first"), (HANGS, "")], "first", 2, 1),
        ([(0.1, ValueError()), (0.2, "second")], "second", 2, 0),
        ([(0.1, "first"), (0, ValueError())], "first", 2, 0),
    ],
    ids=["in time", "the first hangs", "the first was slow", "the late one fails", "the second fails"],
)
def test_the_first_answer_counts(ends, answer, begun, cancelled):
    async def main():
        tries = Tries(*ends)
        assert await first_answer(tries.ask, 0.02) == answer
        assert await settled(lambda: tries.cancelled == cancelled) and tries.begun == begun

    asyncio.run(main())


@pytest.mark.parametrize("ends", [[(0, ValueError())], [(0.1, ValueError()), (0, ValueError())]])
def test_an_error_is_the_callers_where_no_try_answers(ends):
    with pytest.raises(ValueError):
        asyncio.run(first_answer(Tries(*ends).ask, 0.02))


def test_a_caller_who_leaves_ends_both_tries():
    async def main():
        tries = Tries((HANGS, ""), (HANGS, ""))
        task = asyncio.create_task(first_answer(tries.ask, 0))
        assert await settled(lambda: tries.begun == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await settled(lambda: tries.cancelled == 2)

    asyncio.run(main())
