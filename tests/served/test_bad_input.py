"""Bad input against the whole running server: the dialect's own 4xx within a second, and the next request works."""

from __future__ import annotations

import base64
import io
import pickle
import struct
import time
import zlib
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

FACE = "mediapipe-face-detection"


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=30) as client:
        client.post("/model/add", json={"model_id": FACE}).raise_for_status()
        yield client


def detect(http: httpx.Client, image: dict, **settings) -> httpx.Response:
    return http.post("/infer/keypoints_detection", json={"model_id": FACE, "image": image, **settings})


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def png_that_declares(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    end = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + end


def jpeg(size=(320, 240)) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG")
    return stream.getvalue()


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


BAD_IMAGES = {
    "no image at all": (b64(b"just some text, no image"), {400}),
    "an empty file": (b64(b""), {400}),
    "a truncated jpeg": (b64(jpeg()[:-900]), {400}),
    "a jpeg's first bytes": (b64(jpeg()[:300]), {400}),
    "zero by zero": (b64(png_that_declares(0, 0)), {400}),
    "a bomb": (b64(png_that_declares(60_000, 60_000)), {413}),
    "wrong base64": ({"type": "base64", "value": "%%% not base64 %%%"}, {400}),
    "an unknown type": ({"type": "telepathy", "value": "x"}, {400}),
    "a path on the server": ({"type": "file", "value": "/etc/passwd"}, {400}),
    "a url to this machine": ({"type": "url", "value": "https://127.0.0.1/x.jpg"}, {400}),
    "a url to this machine by name": ({"type": "url", "value": "https://localhost/x.jpg"}, {400}),
    "a url to a private address": ({"type": "url", "value": "https://10.0.0.1/x.jpg"}, {400}),
    "a url without encryption": ({"type": "url", "value": "http://example.com/x.jpg"}, {400}),
    "a pickle that runs code": (
        {"type": "numpy", "value": base64.b64encode(pickle.dumps(Evil())).decode()}, {400},
    ),
    "a pickle of a list": ({"type": "numpy", "value": base64.b64encode(pickle.dumps([1, 2])).decode()}, {400}),
    "a float array": (
        {"type": "numpy", "value": base64.b64encode(pickle.dumps(np.zeros((4, 4, 3)))).decode()}, {400},
    ),
    "no image field": (None, {400, 422}),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_a_plain_4xx_long_before_its_deadline(http, photo, name):
    image, statuses = BAD_IMAGES[name]
    began = time.perf_counter()
    answer = detect(http, image)
    assert time.perf_counter() - began < 20
    assert answer.status_code in statuses, answer.text
    body = answer.json()
    assert isinstance(body.get("message", body.get("detail")), str | list)
    assert not any(inner in answer.text for inner in ("Traceback", ".py", str(Path(__file__).parents[2])))
    good = detect(http, b64(photo))
    assert good.status_code == 200 and len(good.json()["predictions"]) == 1


@pytest.mark.parametrize("confidence", [-0.1, 1.5, "very", [0.5]])
def test_a_threshold_outside_its_range_is_refused(http, photo, confidence):
    answer = detect(http, b64(photo), confidence=confidence)
    assert answer.status_code in (400, 422), answer.text


def test_an_unknown_model_is_a_404(http, photo):
    answer = http.post("/infer/object_detection", json={"model_id": "nobody/1", "image": b64(photo)})
    assert answer.status_code == 404 and "nobody/1" in answer.json()["message"]


def test_unknown_fields_of_a_body_are_ignored(http, photo):
    assert detect(http, b64(photo), some_new_field={"a": 1}).status_code == 200


def test_malformed_json_and_empty_bodies(http):
    for content in (b"", b"{", b"[]", b'"x"'):
        answer = http.post("/infer/object_detection", content=content, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422), answer.text


def test_hugging_face_errors_are_an_error_string(http):
    for content in (b"", b"no image", b'{"inputs": 5}', b'{"inputs": "%%%"}'):
        answer = http.post(f"/models/{FACE}", content=content)
        assert answer.status_code == 400, answer.text
        assert isinstance(answer.json()["error"], str)


def test_the_guides_pickled_array_is_read(http, photo):
    picture = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))[:, :, ::-1]
    for protocol in range(6):
        body = pickle.dumps(np.ascontiguousarray(picture), protocol=protocol)
        answer = http.post(
            "/mediapipe/face-detector", params={"image_type": "numpy"}, content=body,
            headers={"content-type": "application/json"},
        )  # fmt: skip
        assert answer.status_code == 200, answer.text
        assert len(answer.json()["predictions"]) == 1


@pytest.mark.parametrize("path, keys", [
    ("/infer/object_detection", {"message"}), ("/coco/3", {"error", "message"}), (f"/models/{FACE}", {"error"}),
    ("/v1/chat/completions", {"error"}),
])  # fmt: skip
def test_a_body_over_the_limit_is_refused_announced_or_in_chunks(http, photo, path, keys):
    megabyte = b" " * 2**20
    for content in (megabyte * 65, (megabyte for _ in range(65))):
        answer = http.post(path, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413 and answer.json().keys() == keys, answer.text
        assert "limit of 64 MB" in answer.text
    assert detect(http, b64(photo)).status_code == 200
