"""One picture in every container, turned as its file says: the same face in the same place from the running server."""

from __future__ import annotations

import base64
import io
import struct

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


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def detect(http: httpx.Client, *pictures: bytes, **settings) -> httpx.Response:
    image = [b64(data) for data in pictures] if len(pictures) > 1 else b64(pictures[0])
    return http.post("/infer/keypoints_detection", json={"model_id": FACE, "image": image, **settings})


def box(answer: dict) -> np.ndarray:
    (face,) = answer["predictions"]
    return np.array([face[name] for name in ("x", "y", "width", "height")])


def lying(photo: bytes, kind: str, **options) -> bytes:
    """The photograph turned to the left, in a file that says: turn it back (orientation 6)."""
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(photo)).convert("RGB").crop((0, 0, 512, 400)).transpose(Image.Transpose.ROTATE_90)
    image.save(stream, kind, exif=exif, **options)
    return stream.getvalue()


def xmp_first(jpeg: bytes) -> bytes:
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
    return jpeg[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(xmp) + 2) + xmp + jpeg[2:]


def test_the_face_is_found_where_it_is_shown_in_every_container(http, photo):
    jpeg = lying(photo, "JPEG", quality=95)
    files = [
        lying(photo, "PNG"), jpeg, xmp_first(jpeg), jpeg[:20] + b"\0\1" + jpeg[20:], lying(photo, "WEBP", quality=95),
        lying(photo, "TIFF"), lying(photo, "AVIF", quality=90),
    ]  # fmt: skip
    answers = detect(http, *files).json()
    for answer in answers:
        assert answer["image"] == {"width": 512, "height": 400}
        assert np.abs(box(answer) - box(answers[0])).max() < 3


def test_a_box_is_drawn_into_the_picture_that_the_model_saw(http, photo):
    data = lying(photo, "WEBP", quality=95)
    answer = detect(http, data, visualize_predictions=True).json()
    assert Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).size == (512, 400)
    assert answer["image"] == {"width": 512, "height": 400}


def test_of_a_batch_the_picture_whose_pixels_are_damaged_is_named(http, photo):
    damaged = bytearray(photo)
    damaged[damaged.index(b"IDAT") + 9] ^= 0xFF  # found when it is decoded, in a process of Triton's
    answer = detect(http, photo, bytes(damaged), photo)
    assert answer.status_code == 400 and "Picture 2 of 3: The PNG cannot be decoded." in answer.json()["message"]
    answer = detect(http, photo, b"no picture")
    assert answer.status_code == 400 and "Picture 2 of 2: The bytes are not a picture." in answer.json()["message"]
