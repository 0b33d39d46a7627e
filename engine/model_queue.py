"""The queue in front of one Triton model: few requests are in Triton at once, the others wait here, cancellable.

Triton runs every request that it accepted, also after its caller cancelled it: steps of an ensemble cannot see the
cancellation. So Triton gets only as many requests as keep its processes busy. Callers take turns: who has many requests
waiting waits for its own, not the others with it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tritonvision import stages
from tritonvision.errors import DeadlineExceeded, Overloaded
from tritonvision.publication import Manifest

T = TypeVar("T")
# Who asks in this task: those that are told apart take turns. Empty is one caller, too.
CALLER: ContextVar[str] = ContextVar("caller", default="")
# Weight of the newest measurement in the running means.
_NEWEST = 0.2
# Times its usual time that an answer may take before its process may hang.
_OVERDUE = 10


def processes_of_narrowest(manifest: Manifest, instances: Callable[[str], int]) -> int:
    """Processes of that part of a loaded model which has the fewest.

    Args:
        instances: processes of a Triton model, by its name; none of an ensemble.
    """
    return min(filter(None, map(instances, (*manifest.triton_names, *manifest.steps))), default=1)


class Line:
    """Requests that wait for a place. Callers take turns, and each caller's requests go in their order."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, caller: str, turn: asyncio.Future[None]) -> None:
        """Let ``turn`` wait behind the caller's others."""
        self._waiting.setdefault(caller, deque()).append(turn)

    def leave(self, caller: str, turn: asyncio.Future[None]) -> None:
        """Take ``turn`` out before its time."""
        self._waiting[caller].remove(turn)
        if not self._waiting[caller]:
            del self._waiting[caller]

    def next(self) -> asyncio.Future[None]:
        """Take out the first request of the caller whose turn it is."""
        caller, turns = self._waiting.popitem(last=False)
        turn = turns.popleft()
        if turns:
            self._waiting[caller] = turns  # behind the others
        return turn

    def before(self, caller: str, more: int) -> int:
        """Requests that go before the last of ``more`` further ones of a caller, these included.

        With the caller's last one, each other caller has had as many turns.
        """
        own = len(self._waiting.get(caller, ())) + more
        return own + sum(min(len(turns), own) for other, turns in self._waiting.items() if other != caller)


class ModelQueue:
    """Callers take turns; bounded by time: a request is refused when it would wait longer than half a deadline.

    Args:
        instances: processes that serve the model; as many requests are in Triton at least, however slow the model is.
        places: requests in Triton at most.
        deadline: seconds an answer may take, its wait included.
    """

    def __init__(self, instances: int, places: int, deadline: float):
        self._deadline = deadline
        self.resize(instances, places)
        self._waiting = Line()
        self._taken = 0
        self._work: set[asyncio.Task] = set()
        self._seconds = 0.0  # running mean: seconds from sending a request to Triton to its answer
        self._interval = 0.0  # running mean: seconds between two answers while the model is busy
        self._expected = 0.0  # when the last of those that were refused was told to come again

    def resize(self, instances: int, places: int) -> None:
        """Let it be as wide as a model that is loaded with other numbers of processes; what it measured stays."""
        self._instances, self._places = instances, max(instances, places)

    def expected_wait(self, requests: int = 1) -> float:
        """Seconds until the last of ``requests`` more of this caller would be sent to Triton, by the measured rate.

        0 before anything was measured.
        """
        behind = self._waiting.before(CALLER.get(), requests) - max(self._limit() - self._taken, 0)
        return max(behind, 0) * self._interval

    def check_room(self, requests: int = 1) -> None:
        """Raises Overloaded when ``requests`` more would wait too long, with the seconds after which there is room.

        Callers that are refused one after the other are told to come again one after the other, at the rate of the
        answers: all at once they would be refused again, and the last of them would wait for its refusal. Nobody is
        told to stay away for longer than a deadline.
        """
        wait, longest = self.expected_wait(requests), self.longest_wait()
        if wait > longest and (self._waiting or self._taken):
            now = time.monotonic()
            after = max(now + wait - longest, self._expected + requests * self._interval)
            self._expected = min(after, now + self._deadline)
            raise Overloaded(
                "The model has more requests than it can answer in time.", retry_after=max(self._expected - now, 1.0)
            )

    async def run(self, call: Callable[[], Awaitable[T]], longest: float) -> T:
        """The result of ``call()``, which calls Triton, as soon as a place is free.

        A caller cancelled while waiting leaves the queue at once. A call that has begun runs to its end without its
        caller and keeps its place until then, because Triton keeps working on it.

        Args:
            longest: seconds to wait for a place.

        Raises:
            DeadlineExceeded: no place became free in time.
        """

        async def work() -> T:
            with self._working():
                return await call()

        with stages.stage("queue"):
            await self._take(longest)
        task = asyncio.ensure_future(work())
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def place(self, longest: float) -> AsyncIterator[None]:
        """A place for the time of the block, for calls that Triton stops when they are cancelled. As :meth:`run`."""
        with stages.stage("queue"):
            await self._take(longest)
        with self._working():
            yield

    def close(self) -> None:
        """Cancel running calls."""
        for task in self._work:
            task.cancel()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Around a call: measures its time and frees its place.

        By Little's law, ``taken`` requests that take ``seconds`` each make a rate. Calls that fail sooner than an
        answer takes do not count.
        """
        began, beside, answered = time.monotonic(), self._taken, False
        try:
            yield
            answered = True
        finally:
            seconds = time.monotonic() - began
            if answered or seconds > self._seconds:
                share = _NEWEST if self._interval else 1.0
                self._seconds += share * (seconds - self._seconds)
                self._interval += share * (seconds / max(beside, self._taken) - self._interval)
            self._give_back()

    def _limit(self) -> int:
        """Requests in Triton at once: fewer for a model so slow that the last of them would miss its deadline."""
        if not self._interval:
            return self._places
        return max(self._instances, min(self._places, int(self._deadline / 2 / self._interval)))

    def longest_wait(self) -> float:
        """Seconds that a request may wait and still be answered before its deadline."""
        return max(min(self._deadline / 2, self._deadline - self._seconds), 0.0)

    def patience(self, deadline: float) -> float:
        """Seconds after which an answer with ``deadline`` is so late that its process may hang: a third of them, and
        more for a model that is slow.
        """
        return max(deadline / 3, _OVERDUE * self._seconds)

    async def _take(self, longest: float) -> None:
        if not self._waiting and self._taken < self._limit():
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caller = CALLER.get()
        self._waiting.add(caller, turn)
        try:
            await asyncio.wait((turn,), timeout=longest)
        except asyncio.CancelledError:
            if turn.done():  # its place was assigned while it was being cancelled
                self._give_back()
            raise
        finally:
            if not turn.done():
                self._waiting.leave(caller, turn)
        if not turn.done():
            wait = max(self._interval, 1.0)
            raise DeadlineExceeded("The request's time passed before its turn came.", retry_after=wait)

    def _give_back(self) -> None:
        self._taken -= 1
        while self._waiting and self._taken < self._limit():
            self._taken += 1
            self._waiting.next().set_result(None)
