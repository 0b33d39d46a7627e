"""Masks in Hugging Face's dialect on the whole running server: instances, every object by a grid, a caller who goes."""

from __future__ import annotations

import base64
import io
import json
import time
from itertools import pairwise

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from PIL import Image
from pycocotools import mask as coco

SEGMENTER, CLICKS, PAGES = "yolov8n-seg-640", "sam-vit_b", "doctr-db_mobilenet_v3"
EVENTS = {"accept": "text/event-stream"}
# of random weights: everything, and logits so high that masks do not all reach over the whole picture
ALL = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "crops_nms_thresh": 1, "mask_threshold": 6}


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=300, headers={"x-wait-for-model": "true"}) as client:
        yield client


def ask(http: httpx.Client, model: str, data: bytes, **parameters):
    found = http.post(f"/models/{model}", json={"inputs": base64.b64encode(data).decode(), "parameters": parameters})
    assert found.status_code == 200, found.text
    return found.json()


def mask_of(text: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert image.mode == "L" and image.size == (512, 512)
    return np.array(image)


def test_the_client_decodes_the_same_masks_as_the_other_dialect_returns(http, server_url, photo):
    client = InferenceClient(model=f"{server_url}/models/{SEGMENTER}", headers={"x-wait-for-model": "true"})
    found = client.image_segmentation(photo, threshold=0.1)
    body = {
        "model_id": SEGMENTER, "image": {"type": "base64", "value": base64.b64encode(photo).decode()},
        "confidence": 0.1, "response_mask_format": "rle",
    }  # fmt: skip
    others = http.post("/infer/instance_segmentation", json=body).json()["predictions"]
    assert len(found) == len(others) > 0
    assert [one.label for one in found] == [other["class"] for other in others]
    assert [one.score for one in found] == pytest.approx([other["confidence"] for other in others], abs=1e-6)
    for one, other in zip(found, others, strict=True):
        assert one.mask.mode == "L" and one.mask.size == (512, 512)
        dense = coco.decode({"size": other["rle"]["size"], "counts": other["rle"]["counts"].encode()})
        np.testing.assert_array_equal(np.array(one.mask), dense * 255)
    assert client.image_segmentation(photo, threshold=0.1, subtask="instance") == found
    with pytest.raises(OSError, match="semantic"):
        client.image_segmentation(photo, subtask="semantic")


def test_a_grid_gives_three_masks_for_each_point_before_filtering(http, photo):
    every = ask(http, CLICKS, photo, points_per_side=2, **ALL)
    assert len(every["masks"]) == len(every["scores"]) == 12
    assert every["scores"] == sorted(every["scores"], reverse=True)
    masks = [mask_of(text) for text in every["masks"]]
    assert len({mask.tobytes() for mask in masks}) > 1 and any(0 < (mask == 255).mean() < 1 for mask in masks)
    # what scores less is left out, and of masks with one box the best stays
    _, limit = max((a - b, (a + b) / 2) for a, b in pairwise(every["scores"]) if 0 < (a + b) / 2 < 1)
    good = ask(http, CLICKS, photo, points_per_side=2, **(ALL | {"pred_iou_thresh": limit}))
    count = sum(score > limit for score in every["scores"])
    assert good == {"masks": every["masks"][:count], "scores": every["scores"][:count]} and 0 < count < 12
    fewer = ask(http, CLICKS, photo, points_per_side=2, **(ALL | {"crops_nms_thresh": 0.5}))
    assert fewer["masks"][0] == every["masks"][0] and len(fewer["masks"]) < 12
    assert set(fewer["masks"]) <= set(every["masks"])


def test_progress_comes_while_it_works(http, photo):
    grid = {"points_per_side": 3, "points_per_batch": 4, **ALL}
    body = {"inputs": base64.b64encode(photo).decode(), "parameters": grid}
    with http.stream("POST", f"/models/{CLICKS}", json=body, headers=EVENTS) as answer:
        assert answer.status_code == 200, answer.read()
        *steps, last = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
    assert steps == [{"done": done, "total": 9} for done in (0, 4, 8, 9)] and len(last["masks"]) == 27


def test_disconnecting_stops_the_mask_generation(http, photo):
    body = {"inputs": base64.b64encode(photo).decode(), "parameters": {"points_per_batch": 4}}
    with http.stream("POST", f"/models/{CLICKS}", json=body, headers=EVENTS) as answer:
        lines = answer.iter_lines()  # kept: httpx disconnects when the iterator is collected
        assert json.loads(next(lines).removeprefix("data: ")) == {"done": 0, "total": 1024}
        assert "tritonvision_pictures_in_flight 1.0" in http.get("/metrics").text
    end = time.monotonic() + 60
    while "tritonvision_pictures_in_flight 0.0" not in http.get("/metrics").text:
        assert time.monotonic() < end, "the walk goes on"
        time.sleep(0.1)


def test_the_text_of_a_page(http, server_url, photo):
    client = InferenceClient(model=f"{server_url}/models/{PAGES}", headers={"x-wait-for-model": "true"})
    body = {"model_id": PAGES, "image": {"type": "base64", "value": base64.b64encode(photo).decode()}}
    wanted = http.post("/doctr/ocr", json=body).json()["result"]
    assert client.image_to_text(photo).generated_text == wanted
