"""Streams over a WebSocket of a facade: the same answers as over an engine, and errors of ours."""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading

import numpy as np
import pytest
from manifests import SIZE
from memory_engine import MemoryEngine
from PIL import Image

from tritonvision import tasks
from tritonvision.client.remote.connection import FacadeConnection
from tritonvision.engine.facts import Facts
from tritonvision.errors import InvalidParameter, InvalidPicture, ServerUnavailable, Unauthorized
from tritonvision.facade.app import create_app
from tritonvision.facade.run import listen, run
from tritonvision.settings import Settings

FACTS = Facts("sam2-rt-tiny", tasks.TRACKING.name)
BOX = {"boxes": [[2, 3, 20, 15]]}


def settings(**given):
    return tasks.resolve(tasks.TRACKING.parameters, given)


def npy():
    stream = io.BytesIO()
    np.save(stream, np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    return stream.getvalue()


@pytest.fixture
def address(tmp_path):
    """A facade on a port, over an engine that follows from memory."""
    with listen("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    engine, ready = MemoryEngine(tmp_path), threading.Event()
    options = Settings(repository=tmp_path, host="127.0.0.1", port=port, api_key="secret")
    loop = asyncio.new_event_loop()
    task = loop.create_task(run(create_app(engine, options), options, ready=ready.set))

    def serve():
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(20)
    yield engine, f"http://127.0.0.1:{port}"
    loop.call_soon_threadsafe(task.cancel)
    thread.join(20)
    loop.close()


def story(url, steps, key="secret"):
    """What ``steps(connection)`` gives, on a connection of its own."""

    async def told():
        connection = await FacadeConnection(url, key, lambda _: None).open()
        try:
            return await steps(connection)
        finally:
            await connection.close()

    return asyncio.run(told())


def test_a_stream_goes_frame_by_frame_and_ends_with_its_connection(address):
    engine, url = address

    async def steps(connection):
        stream, first = await connection.step(FACTS, npy(), settings(**BOX), None)
        again, second = await connection.step(FACTS, npy(), settings(), stream)
        other, _ = await connection.step(FACTS, npy(), settings(**BOX), None)
        await connection.end(FACTS, stream)
        with pytest.raises(InvalidParameter, match="not known"):
            await connection.step(FACTS, npy(), settings(), stream)
        return stream, again, other, first, second

    stream, again, other, first, second = story(url, steps)
    assert stream == again != other and (first.frame, second.frame) == (0, 1)
    assert first.object_ids.tolist() == [3] and first.scores.tolist() == [0.75] and first.state_bytes == 1000
    assert first.masks.to_dense().sum() == 4 * 15 and first.image_metadata == {"height": SIZE[1], "width": SIZE[0]}
    assert Image.open(io.BytesIO(engine.streams.asked[0][1])).size == SIZE, "arrays are sent as pictures"


def test_refusals_are_errors_of_ours_and_the_stream_goes_on(address):
    engine, url = address

    async def steps(connection):
        with pytest.raises(InvalidParameter, match="nothing to follow"):
            await connection.step(FACTS, npy(), settings(), None)
        stream, _ = await connection.step(FACTS, npy(), settings(**BOX), None)
        with pytest.raises(InvalidPicture):
            await connection.step(FACTS, b"no picture", settings(), stream)
        engine.streams.failure = InvalidParameter("The frame 0 is forgotten.", hint="Prompt on a later one.")
        with pytest.raises(InvalidParameter, match="forgotten") as refused:
            await connection.step(FACTS, None, settings(frame=0, **BOX), stream)
        assert refused.value.hint == "Prompt on a later one."
        return (await connection.step(FACTS, npy(), settings(), stream))[1].frame

    assert story(url, steps) == 1


def test_a_step_that_is_cancelled_ends_its_stream_so_that_no_frame_gets_the_answer_of_another(address, monkeypatch):
    engine, url = address
    answer, begun = engine.streams.step, threading.Event()

    async def slowly(*asked):
        begun.set()
        await asyncio.sleep(0.2)
        return await answer(*asked)

    async def steps(connection):
        stream, _ = await connection.step(FACTS, npy(), settings(**BOX), None)
        monkeypatch.setattr(engine.streams, "step", slowly)
        step = asyncio.create_task(connection.step(FACTS, npy(), settings(), stream))
        assert await asyncio.to_thread(begun.wait, 20)
        step.cancel()
        with pytest.raises(asyncio.CancelledError):
            await step
        with pytest.raises(InvalidParameter, match="not known"):
            await connection.step(FACTS, npy(), settings(), stream)

    story(url, steps)


def test_requests_of_one_stream_go_one_after_the_other(address):
    _, url = address

    async def steps(connection):
        stream, _ = await connection.step(FACTS, npy(), settings(**BOX), None)
        asked = (connection.step(FACTS, npy(), settings(), stream) for _ in range(5))
        return [found.frame for _, found in await asyncio.gather(*asked)]

    assert story(url, steps) == [1, 2, 3, 4, 5]


def test_who_has_no_key_and_who_meets_nobody_is_told(address):
    _, url = address

    async def steps(connection):
        await connection.step(FACTS, npy(), settings(**BOX), None)

    with pytest.raises(Unauthorized):
        story(url, steps, key="wrong")
    with pytest.raises(ServerUnavailable, match="No server answers"):
        story("http://127.0.0.1:9", steps)
