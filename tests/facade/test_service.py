"""Pieces that come as long as somebody listens."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from tritonvision.errors import Overloaded
from tritonvision.facade.admission import Admission
from tritonvision.facade.service import Service, until_gone


class Caller:
    """A caller who hangs up when told to."""

    def __init__(self):
        self.gone = asyncio.Event()
        self.request = Request({"type": "http"}, self._receive)

    async def _receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}


class Source:
    """Counts up to ``most``; waits for ever before the piece number ``stuck``."""

    def __init__(self, most: int, stuck: int = -1, end: Exception | None = None):
        self.most, self.stuck, self.end, self.closed = most, stuck, end, False

    async def pieces(self):
        try:
            for i in range(self.most):
                if i == self.stuck:
                    await asyncio.Event().wait()
                yield i
            if self.end is not None:
                raise self.end
        finally:
            self.closed = True


async def left_over() -> int:
    """Tasks beside this one, once the loop has had a turn."""
    await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


@given(st.integers(0, 20))
def test_every_piece_comes_in_order(most):
    async def main():
        source = Source(most)
        assert [i async for i in until_gone(Caller().request, source.pieces())] == list(range(most))
        assert source.closed and await left_over() == 0

    asyncio.run(main())


@given(st.integers(0, 5), st.booleans())
def test_a_caller_who_hangs_up_ends_it_also_while_nothing_comes(after, stuck):
    async def main():
        source, caller, seen = Source(10, after if stuck else -1), Caller(), []
        if stuck:
            asyncio.get_running_loop().call_later(0.001, caller.gone.set)
        with pytest.raises(ClientDisconnect):
            async for i in until_gone(caller.request, source.pieces()):
                seen.append(i)
                if not stuck and i == after:
                    caller.gone.set()
                    await asyncio.sleep(0)
        assert seen[: after + 1] == list(range(after if stuck else after + 1)) and len(seen) <= after + 2
        assert source.closed and await left_over() == 0

    asyncio.run(main())


def test_what_goes_wrong_is_raised_and_leaves_nothing():
    async def main():
        source = Source(2, end=ValueError("no"))
        with pytest.raises(ValueError):
            [i async for i in until_gone(Caller().request, source.pieces())]
        assert source.closed and await left_over() == 0

    asyncio.run(main())


@pytest.mark.parametrize("stuck", [-1, 1])
def test_closing_and_cancelling_end_it(stuck):
    async def listen(source):
        async with contextlib.aclosing(until_gone(Caller().request, source.pieces())) as pieces:
            async for i in pieces:
                if stuck < 0 and i == 1:
                    return

    async def main():
        source = Source(5, stuck)
        task = asyncio.create_task(listen(source))
        if stuck >= 0:
            await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled() == (stuck >= 0) and source.closed and await left_over() == 0

    asyncio.run(main())


# ---- room ------------------------------------------------------------------------------------------------------------


def test_a_model_without_room_is_said_before_a_picture_is_read_and_when_to_come_back(house):
    house.engine.no_room = Overloaded("The model has more requests than it can answer in time.", retry_after=4.2)
    picture = {"type": "url", "value": "http://localhost:1/not-fetched.png"}
    refused = house.client.post("/infer/object_detection", json={"model_id": "yolov8n-640", "image": picture})
    assert refused.status_code == 503 and refused.headers["retry-after"] == "5"
    assert house.engine.asked == []


def test_work_beside_the_model_counts_and_is_dropped_when_nobody_waits_for_it():
    async def main():
        service = Service(None, None, Admission(1, 1, 1), None, None, ThreadPoolExecutor(1))
        begun, go, ran = threading.Event(), threading.Event(), []

        def first():
            begun.set()
            go.wait()
            return "drawn"

        drawing = asyncio.create_task(service.work(Caller().request, first))
        await asyncio.to_thread(begun.wait)
        leaver = Caller()
        second = asyncio.create_task(service.work(leaver.request, ran.append, "second"))
        await asyncio.sleep(0)
        assert service.admission.pictures == 2
        with pytest.raises(Overloaded), service.admission.admit(1):
            pass
        leaver.gone.set()
        with pytest.raises(ClientDisconnect):
            await second
        go.set()
        assert await drawing == "drawn"
        assert await service.work(Caller().request, ran.append, "third") is None and ran == ["third"]
        assert service.admission.pictures == 0

    asyncio.run(main())
