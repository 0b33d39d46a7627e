"""Frames are answered several at once, and each once, in order."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import numpy as np
import pytest

from tritonvision.client.video.frames import Frame, Frames
from tritonvision.client.video.in_order import AT_ONCE, in_order
from tritonvision.errors import InvalidPicture, Overloaded, ServerUnavailable

NOTHING = np.zeros((2, 2, 3), np.uint8)


class Counted(Frames):
    """``count`` frames, then the end or an error."""

    live, rate, total, name = False, 25.0, None, "counted"

    def __init__(self, count: int, failure: Exception | None = None):
        self._left, self._failure, self._next = count, failure, 0
        self.closed = False

    def read(self) -> Frame | None:
        if self._next == self._left:
            if self._failure:
                raise self._failure
            return None
        self._next += 1
        return Frame(self._next - 1, (self._next - 1) / 25, NOTHING)

    def close(self) -> None:
        self.closed = True


def collect(frames: Frames, ask, most: int | None = None) -> list[tuple[int, int]]:
    async def run():
        async with aclosing(in_order(frames, ask, most)) as answered:
            return [(frame.number, answer) async for frame, answer in answered]

    return asyncio.run(run())


async def itself(frame: Frame) -> int:
    return frame.number


def test_every_frame_is_answered_once_in_order_however_long_each_answer_takes():
    under_way, most = 0, 0

    async def ask(frame: Frame) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.004 if frame.number % 3 == 0 else 0.001)
        under_way -= 1
        return frame.number

    frames = Counted(30)
    assert collect(frames, ask) == [(n, n) for n in range(30)]
    assert most == AT_ONCE and frames.closed


@pytest.mark.parametrize("count", [0, 1])
def test_a_video_may_have_hardly_any_frames(count):
    assert collect(Counted(count), itself) == [(n, n) for n in range(count)]


def test_it_ends_after_the_number_of_frames_asked_for():
    frames = Counted(30)
    assert collect(frames, itself, 7) == [(n, n) for n in range(7)]
    assert frames._next == 7 and frames.closed


def test_what_was_read_before_an_error_is_answered_before_it_is_raised():
    frames, seen = Counted(10, InvalidPicture("It ends in the middle.")), []

    async def run():
        async for frame, _ in in_order(frames, itself):
            seen.append(frame.number)

    with pytest.raises(InvalidPicture, match="in the middle"):
        asyncio.run(run())
    assert seen == list(range(10)) and frames.closed


def test_an_error_of_a_frame_says_which_and_ends_what_is_under_way():
    cancelled = []

    async def run():
        later = asyncio.Event()

        async def ask(frame: Frame) -> int:
            if frame.number == 2:
                await later.wait()
                raise InvalidPicture("It is too wide.", hint="Scale it.")
            try:
                if frame.number > 2:
                    later.set()
                    await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(frame.number)
                raise
            return frame.number

        async for _ in in_order(frames, ask):
            pass

    frames = Counted(30)
    with pytest.raises(InvalidPicture, match=r"Frame 2: It is too wide\.") as caught:
        asyncio.run(run())
    assert caught.value.hint == "Scale it." and frames.closed
    assert cancelled and set(cancelled) <= {3, 4, 5}


def test_a_server_with_too_much_work_is_asked_again_and_one_that_is_gone_is_not():
    refused = set()

    async def busy(frame: Frame) -> int:
        if frame.number not in refused:
            refused.add(frame.number)
            raise Overloaded(retry_after=0.001)
        return frame.number

    assert collect(Counted(5), busy) == [(n, n) for n in range(5)]

    async def gone(frame: Frame) -> int:
        raise ServerUnavailable()

    with pytest.raises(ServerUnavailable):
        collect(Counted(5), gone)


def test_closing_it_closes_the_source():
    frames = Counted(30)

    async def run():
        async with aclosing(in_order(frames, itself)) as answered:
            await anext(answered)

    asyncio.run(run())
    assert frames.closed
