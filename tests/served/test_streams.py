"""Streams of objects on a tritonserver: several at once, Triton asked directly, and more connections than places."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco
from websockets.asyncio.client import connect

from tritonvision.client import TritonClient
from tritonvision.engine.engine import Engine
from tritonvision.ensembles import published
from tritonvision.errors import InvalidParameter
from tritonvision.publication import Repository
from tritonvision.server import Embedded
from tritonvision.settings import Settings
from tritonvision.streams import MOST

MODEL = "tests/small-tracks/1"
FIRST = {"boxes": [[100, 60, 330.5, 400]], "box_objects": [3], "points": [[60, 90]], "point_objects": [1]}
CORRECTION = {"points": [[70, 100], [200, 300]], "point_labels": [1, 0], "point_objects": [1, 1]}


def npy(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, picture)
    return stream.getvalue()


@pytest.fixture(scope="module")
def videos(photo):
    """Four videos of three frames, RGB uint8 ``[h, w, 3]``."""
    picture = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    return [[np.ascontiguousarray(np.roll(picture, 40 * i + 9 * n, axis=1)) for n in range(3)] for i in range(4)]


@pytest.fixture(scope="module")
def tracks(served_repository, tmp_path_factory):
    """A tritonserver over the tests' models."""
    settings = Settings(repository=served_repository, log_dir=tmp_path_factory.mktemp("log"), deadline=120)
    server = Embedded(settings)
    server.start()
    yield server, settings
    server.stop()


def asked(number: int) -> dict:
    return {0: FIRST, 1: CORRECTION}.get(number, {})


def dense(masks, size):
    return [coco.decode({"size": size, "counts": counts}).astype(bool) for counts in masks]


def iou(one, other):
    either = (one | other).sum()
    return 1.0 if not either else (one & other).sum() / either


def test_four_streams_on_a_server_are_each_as_in_this_process(tracks, videos):
    server, settings = tracks
    manifest = Repository(settings.repository).resolve(MODEL)
    (local,) = published.open_published(settings.repository, manifest).values()

    async def follow(engine, video):
        stream, found = None, []
        for number, frame in enumerate(video):
            stream, answer = await engine.streams.step(MODEL, npy(frame), asked(number), stream)
            found.append(answer)
        await engine.streams.end(MODEL, stream)
        with pytest.raises(InvalidParameter, match="is not known here"):
            await engine.streams.step(MODEL, npy(video[0]), {}, stream)
        return found

    async def story():
        engine = Engine(settings, server)
        await engine.start()
        try:
            return await asyncio.gather(*(follow(engine, video) for video in videos))
        finally:
            await engine.close()

    for found, video in zip(asyncio.run(story()), videos, strict=True):
        step = local.stream()
        for number, (answer, frame) in enumerate(zip(found, video, strict=True)):
            one = step({"image": npy(frame)}, asked(number))
            assert answer.object_ids.tolist() == one["object_ids"].tolist() == [3, 1]
            alone = dense(one["masks"], one["image_size"].tolist())
            assert min(map(iou, answer.masks.to_dense().astype(bool), alone)) >= 0.999
            assert answer.state_bytes == one["state_bytes"][0]


def test_triton_itself_is_asked_by_sequences(tracks, videos):
    server, _ = tracks
    frame = npy(videos[0][0])
    with TritonClient(server.address) as triton:
        with triton.stream(MODEL) as stream:
            assert stream.step(frame, **FIRST).frame == 0
            assert stream.step(frame).object_ids.tolist() == [3, 1]
            with pytest.raises(InvalidParameter, match="no frame 9 yet"):
                stream.step(boxes=[[1, 2, 30, 40]], frame=9)
        lost = triton.stream(MODEL)
        lost._begun = True
        with pytest.raises(InvalidParameter, match="not known here any more"):
            lost.step(frame)


def test_of_a_thousand_streams_those_without_a_place_are_told_so_and_nothing_fails(server_url):
    address = f"{server_url.replace('http', 'ws', 1)}/streams/{MODEL}"
    picture = cv2.imencode(".png", np.full((60, 80, 3), 90, np.uint8))[1]
    prompt = json.dumps({"image": base64.b64encode(picture).decode(), "boxes": [[10, 6, 33, 40]]})

    async def begin(sockets):
        socket = await connect(address, max_size=None, open_timeout=60, close_timeout=60)
        sockets.append(socket)
        await socket.send(prompt)
        return json.loads(await socket.recv())

    async def story():
        sockets = []
        try:
            told = await asyncio.gather(*(begin(sockets) for _ in range(1000)))
            late = await begin(sockets)
        finally:
            await asyncio.gather(*(socket.close() for socket in sockets))
        return told, late, await begin(last := []), await asyncio.gather(*(socket.close() for socket in last))

    told, late, after, _ = asyncio.run(story())
    followed = [answer for answer in told if "objects" in answer]
    refused = [answer for answer in told if "objects" not in answer]
    assert len(followed) == MOST and all(answer["frame"] == 0 for answer in followed)
    assert {answer["code"] for answer in refused} == {"overloaded"}
    assert all(answer["error"] and answer["hint"] for answer in refused)
    assert late["error"] == f"All {MOST} streams of '{MODEL}' are in use."
    assert after["objects"], "their places are free again"
