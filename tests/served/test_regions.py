"""Regions of a picture, classified by a running server: as each would be alone, in the order of the question."""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

URL = "/infer/classification"


def body(picture: bytes, **more) -> dict:
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    return {"model_id": "resnet18", "image": image, "confidence": 0, **more}


def scores(answer: dict) -> np.ndarray:
    rows = sorted(answer["predictions"], key=lambda row: row["class_id"])
    return np.array([row["confidence"] for row in rows])


def region(left: int, top: int, right: int, bottom: int) -> dict:
    return {"x": (left + right) / 2, "y": (top + bottom) / 2, "width": right - left, "height": bottom - top}


def test_each_region_is_answered_for_its_own_pixels_in_order_across_batches(server_url, photo):
    rng = np.random.default_rng(0)
    corners = [(0, 0, 512, 512), (100, 37, 101, 38), (0, 500, 512, 512)]  # the whole, one pixel, a strip
    for _ in range(16):  # with the first three more than two batches of eight
        left, top = rng.integers(0, 400, 2).tolist()
        corners.append((left, top, left + int(rng.integers(8, 112)), top + int(rng.integers(8, 112))))
    with httpx.Client(base_url=server_url, timeout=60) as http:
        answers = http.post(URL, json=body(photo, regions=[region(*c) for c in corners])).json()
        assert len(answers) == len(corners)
        whole = Image.open(io.BytesIO(photo)).convert("RGB")
        for corner, answer in zip(corners, answers, strict=True):
            stream = io.BytesIO()
            whole.crop(corner).save(stream, "PNG")
            alone = http.post(URL, json=body(stream.getvalue())).json()
            np.testing.assert_allclose(scores(answer), scores(alone), atol=1e-4)
            assert answer["image"] == {"width": 512, "height": 512}
    assert len({answer["top"] for answer in answers}) > 1


@pytest.mark.parametrize("bad", [region(600, 600, 700, 700), {"x": 5, "y": 5, "width": 0, "height": 4}])
def test_a_region_with_nothing_in_it_is_a_400_in_a_sentence(server_url, photo, bad):
    answer = httpx.post(server_url + URL, json=body(photo, regions=[region(0, 0, 9, 9), bad]), timeout=60)
    assert answer.status_code == 400 and "region" in answer.json()["message"]
