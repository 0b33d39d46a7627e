"""Gaze through the whole running server: a model that asks another one, and the inputs it could stumble over."""

from __future__ import annotations

import base64
import io
import math

import httpx
import numpy as np
import pytest
from PIL import Image

ROUTE = "/gaze/gaze_detection"


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=60) as client:
        client.post("/model/add", json={"model_id": "gaze/L2CS"}).raise_for_status()
        yield client


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def png(picture: np.ndarray) -> dict:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return b64(stream.getvalue())


def ask(http: httpx.Client, image, **body) -> list:
    answer = http.post(ROUTE, json={"image": image, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_photos_face_looks_somewhere(http, photo):
    (answer,) = ask(http, b64(photo))
    (prediction,) = answer["predictions"]
    face = prediction["face"]
    assert (face["x"], face["y"], face["width"]) == pytest.approx((225.2, 130.5, 95.3), abs=0.5)
    assert len(face["landmarks"]) == 6
    assert all(abs(prediction[angle]) <= math.pi for angle in ("yaw", "pitch"))
    assert 0 < answer["time_face_det"] < answer["time"] and 0 < answer["time_gaze_det"] < answer["time"]


def test_pictures_of_one_request_get_the_angles_they_get_alone(http, photo):
    picture = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))[:300, 100:350]
    mirrored = np.ascontiguousarray(picture[:, ::-1])
    both, other = ask(http, [png(picture), png(mirrored)])
    (alone,) = ask(http, png(picture))
    for angle in ("yaw", "pitch"):
        one, same, another = (answer["predictions"][0][angle] for answer in (both, alone, other))
        assert one == pytest.approx(same, abs=1e-4) and one != pytest.approx(another, abs=1e-3)


def test_a_picture_without_a_face_has_no_predictions(http):
    noise = np.random.default_rng(0).integers(0, 256, (97, 333, 3), dtype=np.uint8)
    for picture in (noise, noise[:1, :1], noise[:1], np.zeros((300, 200, 3), np.uint8)):
        assert ask(http, png(picture))[0]["predictions"] == []


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (300, 250)], ids=str)
def test_a_whole_picture_can_be_a_face_down_to_one_pixel(http, size):
    height, width = size
    (answer,) = ask(http, png(np.full((height, width, 3), 128, np.uint8)), do_run_face_detection=False)
    (prediction,) = answer["predictions"]
    face = prediction["face"]
    assert (face["x"], face["y"], face["width"], face["height"]) == (width / 2, height / 2, width, height)
    assert face["confidence"] == 1 and face["landmarks"] == [] and math.isfinite(prediction["yaw"])


@pytest.mark.parametrize("find", [True, False], ids=["faces", "whole picture"])
def test_what_is_no_picture_is_refused_and_the_next_request_works(http, photo, find):
    for data in (b"", b"no picture", photo[:-100]):
        answer = http.post(ROUTE, json={"image": b64(data), "do_run_face_detection": find})
        assert answer.status_code == 400 and "message" in answer.json()
    assert len(ask(http, b64(photo))[0]["predictions"]) == 1
