"""Asynchronous work runs on one loop for callers from any thread; what is given up is cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tritonvision.client.background import Background
from tritonvision.errors import InvalidPicture, ServerUnavailable, SetupError


@pytest.fixture
def background():
    background = Background()
    yield background
    background.close()


async def where() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


async def ones(closed: threading.Event):
    """1 again and again; ``closed`` is set at the end."""
    try:
        while True:
            yield 1
    finally:
        closed.set()


def test_every_thread_gets_its_own_result_from_one_loop(background):
    async def double(i: int) -> tuple[int, int]:
        return 2 * i, await where()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: background.run(double(i)), range(50)))
    assert [value for value, _ in found] == [2 * i for i in range(50)]
    assert len({thread for _, thread in found}) == 1 and found[0][1] != threading.get_ident()


def test_errors_come_out_as_they_are(background):
    async def fail() -> None:
        raise InvalidPicture("No.")

    with pytest.raises(InvalidPicture):
        background.run(fail())


def test_pieces_come_one_by_one_and_are_closed_when_nobody_wants_more(background):
    closed = threading.Event()

    async def count():
        try:
            for i in range(1000):
                yield i
        finally:
            await asyncio.sleep(0)
            closed.set()

    pieces = background.iterate(count())
    assert [next(pieces), next(pieces)] == [0, 1]
    pieces.close()
    assert closed.is_set()
    assert list(background.iterate(count())) == list(range(1000))


def test_ctrl_c_while_a_piece_is_waited_for_ends_the_work(background):
    closed = threading.Event()

    async def wait():
        try:
            yield 1
            await asyncio.sleep(60)
            yield 2
        finally:
            await asyncio.sleep(0.1)
            closed.set()

    pieces = background.iterate(wait())
    next(pieces)
    # a real signal, to the thread that waits; whoever started the tests may have had it ignored
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Timer(0.2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(pieces)
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed.is_set()


def test_a_forgotten_iterator_that_is_collected_on_the_loop_itself_does_not_stop_it(background):
    async def count():
        while True:
            yield 1

    pieces = [background.iterate(count())]
    next(pieces[0])

    async def forget() -> None:
        pieces[0].close()

    background.run(forget())
    assert background.run(where())


def test_an_iterator_is_closed_with_its_loop(background):
    closed = threading.Event()
    pieces = background.iterate(ones(closed))
    next(pieces)
    background.close()
    assert closed.is_set()
    with pytest.raises(ServerUnavailable):
        next(pieces)
    pieces.close()


def test_a_forgotten_iterator_waits_for_no_lock_and_for_no_loop(background):
    """The collector may run in the middle of any call, also of one that holds the lock, or what the loop waits for."""
    closed, held = threading.Event(), threading.Event()
    pieces = [background.iterate(ones(closed))]
    next(pieces[0])
    background._loop._loop.call_soon_threadsafe(held.wait, 20)
    forget = threading.Thread(target=pieces.clear, daemon=True)
    with background._lock:
        forget.start()
        forget.join(20)
    assert not forget.is_alive() and not closed.is_set()
    held.set()
    assert closed.wait(20)


def test_whoever_waits_when_the_loop_is_closed_is_told_so(background):
    begun = threading.Event()

    async def wait():
        begun.set()
        await asyncio.sleep(60)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(background.run, wait())
        assert begun.wait(20)
        background.close()
        with pytest.raises(ServerUnavailable, match="closed before the answer came"):
            waiting.result(20)


def test_whoever_asks_while_the_loop_is_closed_by_others_gets_an_answer_or_is_told(background):
    end = threading.Event()

    def ask() -> int:
        told = 0
        while not end.is_set():
            try:
                assert background.run(where())
            except ServerUnavailable:
                told += 1
        return told

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for _ in range(200):
            background.close()
        end.set()
        assert sum(one.result(20) for one in asking) > 0


def test_it_begins_anew_after_it_was_closed(background):
    first = background.run(where())
    background.close()
    background.close()
    assert not any(thread.ident == first and thread.name == "tritonvision-loop" for thread in threading.enumerate())
    assert background.run(where())


def test_a_process_that_was_forked_is_told_so(background):
    background.run(where())
    child = os.fork()
    if child == 0:
        try:
            background.run(where())
        except SetupError as error:
            os._exit(7 if "fork" in error.message else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
