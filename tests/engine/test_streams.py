"""The streams of an engine: how many, in which order, how they end, and what comes after."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from types import SimpleNamespace

import grpc
import numpy as np
import pytest

from tritonvision.engine import codec
from tritonvision.engine.streams import Streams, check_alone
from tritonvision.errors import InvalidParameter, NotSupported, Overloaded, ServerUnavailable
from tritonvision.streams import IDLE_SECONDS, MOST


class Failure(grpc.RpcError):
    def __init__(self, details: str):
        self._details = details

    def code(self):
        return grpc.StatusCode.INTERNAL

    def details(self):
        return self._details


class Client:
    """Answers as a model that follows one object; ``failure`` is raised instead, once."""

    def __init__(self):
        self.asked, self.failure, self.running, self.most = [], None, 0, 0

    width = 1

    def new_sequence(self, model):
        return codec.new_sequence()

    async def call(self, model, samples, parameters, deadline, outputs=(), sequence=None):
        self.asked.append((model, samples[0], parameters[0], sequence))
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        failure, self.failure = self.failure, None
        if failure:
            raise failure
        return [{
            "masks": np.array([b"0"], object), "object_ids": np.int64([3]), "scores": np.float32([1]),
            "frame": np.int64([len(self.asked) - 1]), "state_bytes": np.int64([5]), "image_size": np.int32([4, 6]),
        }]  # fmt: skip

    @property
    def steps(self):
        return [sequence for *_, sequence in self.asked]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Loader:
    def __init__(self):
        self.loaded_models = SimpleNamespace(using=self._using)

    @contextmanager
    def _using(self, manifest):
        yield

    async def ensure(self, manifest, wait):
        pass


@pytest.fixture
def house():
    client, clock = Client(), Clock()

    def resolve(model, task):
        return SimpleNamespace(id=model, triton_name=model)

    return SimpleNamespace(client=client, clock=clock, streams=Streams(client, Loader(), resolve, 5.0, clock))


def run(coroutine):
    return asyncio.run(coroutine)


def test_the_first_request_of_a_stream_says_so_and_the_last_one_too(house):
    async def story():
        number, found = await house.streams.step("m", b"frame", {"boxes": [[1, 2, 3, 4]]})
        again, _ = await house.streams.step("m", None, {}, number)
        await house.streams.end("m", number)
        await house.streams.end("m", number)
        return number, again, found

    number, again, found = run(story())
    assert number == again and found.object_ids.tolist() == [3] and found.state_bytes == 5
    assert [(step.id, step.start, step.end) for step in house.client.steps] == [
        (number, True, False), (number, False, False), (number, False, True),
    ]  # fmt: skip
    assert [sample for _, sample, _, _ in house.client.asked] == [{"image": b"frame"}, {}, {}]


def test_streams_have_numbers_of_their_own(house):
    async def story():
        return {(await house.streams.step("m", b"", {}))[0] for _ in range(MOST)}

    assert len(run(story())) == MOST


def test_one_stream_more_than_there_is_room_for_is_refused_until_one_ends_or_is_silent(house):
    async def story():
        numbers = [(await house.streams.step("m", b"", {}))[0] for _ in range(MOST)]
        refused = 0
        for _ in range(1000):
            with pytest.raises(Overloaded, match=f"All {MOST} streams of 'm'") as caught:
                await house.streams.step("m", b"", {})
            refused += bool(caught.value.hint) and caught.value.retry_after == IDLE_SECONDS
        assert refused == 1000 and len(house.client.asked) == MOST
        await house.streams.step("other", b"", {})  # a model of its own
        await house.streams.end("m", numbers[0])
        await house.streams.step("m", b"", {})
        house.clock.now = IDLE_SECONDS + 1
        await house.streams.step("m", b"", {})
        assert len(house.streams) == 1

    run(story())


def test_a_stream_that_nobody_knows_or_that_was_silent_is_refused_with_advice(house):
    async def story():
        number, _ = await house.streams.step("m", b"", {})
        for stream, model in ((number + 1, "m"), (number, "other")):
            with pytest.raises(InvalidParameter, match="is not known here") as caught:
                await house.streams.step(model, b"", {}, stream)
            assert "prompt" in caught.value.hint
        house.clock.now = IDLE_SECONDS + 1
        with pytest.raises(InvalidParameter, match=f"{IDLE_SECONDS} seconds"):
            await house.streams.step("m", b"", {}, number)

    run(story())
    assert len(house.client.asked) == 1


def test_requests_of_one_stream_go_one_after_another_and_those_of_several_at_once(house):
    async def story():
        number, _ = await house.streams.step("m", b"", {})
        await asyncio.gather(*(house.streams.step("m", b"%d" % i, {}, number) for i in range(5)))
        alone = house.client.most
        await asyncio.gather(*(house.streams.step("m", b"", {}) for _ in range(5)))
        return alone

    assert run(story()) == 1 and house.client.most == 5
    assert [sample["image"] for _, sample, _, _ in house.client.asked[1:6]] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_first_request_that_is_refused_leaves_no_stream_behind(house):
    async def story():
        house.client.failure = Failure("[invalid_parameter] There is nothing to follow yet.")
        with pytest.raises(InvalidParameter, match="nothing to follow"):
            await house.streams.step("m", b"", {})

    run(story())
    assert len(house.streams) == 0 and house.client.steps[-1].end


def test_a_later_request_that_is_refused_leaves_the_stream_as_it_was(house):
    async def story():
        number, _ = await house.streams.step("m", b"", {})
        house.client.failure = Failure("[invalid_parameter] The frame 0 is forgotten.")
        with pytest.raises(InvalidParameter, match="forgotten"):
            await house.streams.step("m", None, {"frame": 0}, number)
        await house.streams.step("m", b"", {}, number)

    run(story())


@pytest.mark.parametrize("details, error", [
    ("Stub process 'm' is not healthy.", ServerUnavailable),
    ("[invalid_parameter] The sequence 7 is not known here any more.", InvalidParameter),
    ("inference request for sequence 7 to model 'm' must specify the START flag", InvalidParameter),
])  # fmt: skip
def test_a_stream_whose_process_was_lost_is_never_asked_again(house, details, error):
    async def story():
        number, _ = await house.streams.step("m", b"", {})
        house.client.failure = Failure(details)
        with pytest.raises(error):
            await house.streams.step("m", b"", {}, number)
        asked = len(house.client.asked)
        with pytest.raises(InvalidParameter, match="its process was lost"):
            await house.streams.step("m", b"", {}, number)
        assert len(house.client.asked) == asked

    run(story())


def test_a_stream_whose_request_was_cancelled_is_not_asked_again_and_takes_its_place_until_it_is_ended(house):
    """The server keeps it: as many as there is room for and one more would wait there."""

    async def story():
        number, _ = await house.streams.step("m", b"", {})
        asked, behind = (asyncio.ensure_future(house.streams.step("m", b"", {}, number)) for _ in range(2))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.wait((asked, behind))
        assert asked.cancelled() and not house.streams.knows(number) and len(house.streams) == 1
        assert isinstance(behind.exception(), InvalidParameter) and len(house.client.asked) == 2
        with pytest.raises(InvalidParameter, match="is not known here"):
            await house.streams.step("m", b"", {}, number)
        await house.streams.end("m", number)
        assert len(house.streams) == 0 and house.client.steps[-1].end and house.client.steps[-1].id == number

    run(story())


def test_a_picture_alone_is_refused_with_the_ways_to_ask():
    manifest = SimpleNamespace(id="sam2-rt-tiny", task="video-instance-segmentation")
    with pytest.raises(NotSupported, match="follows objects") as refused:
        check_alone(manifest)
    assert "prompt" in refused.value.hint and "/streams/sam2-rt-tiny" in refused.value.hint
    check_alone(SimpleNamespace(id="m", task="object-detection"))
