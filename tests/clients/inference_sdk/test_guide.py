"""The snippets of Roboflow's guide that use its client, as it prints them: host, key, file and id apart.

No model is added before: the first request that names one loads it.
"""

from __future__ import annotations

import base64
import json
import urllib.request

import cv2
import pytest
from inference_sdk import InferenceHTTPClient
from PIL import Image

MODEL_VERSION = 1


@pytest.fixture
def client(guide) -> InferenceHTTPClient:
    return InferenceHTTPClient(api_url=guide.url, api_key="API_KEY")


def assert_boxes(results: dict) -> None:
    assert results["image"] == {"width": 512, "height": 512}
    assert 1 <= len(results["predictions"]) <= 300
    for found in results["predictions"]:
        assert {"x", "y", "width", "height", "confidence", "class", "class_id", "detection_id"} <= found.keys()
        assert 0.4 <= found["confidence"] <= 1


def test_a_url_which_the_client_fetches(guide, client):
    results = client.infer(guide.image_url, model_id=f"{guide.project_id}/{MODEL_VERSION}")
    assert_boxes(results)
    image = {"type": "base64", "value": base64.b64encode(open(guide.file_name, "rb").read()).decode()}
    body = json.dumps({"model_id": f"{guide.project_id}/{MODEL_VERSION}", "image": image}).encode()
    with urllib.request.urlopen(f"{guide.url}/infer/object_detection", body) as answer:
        same = json.load(answer)["predictions"]
    assert [found["confidence"] for found in results["predictions"]] == [found["confidence"] for found in same]


def test_a_pillow_image(guide, client):
    pil_image = Image.open(guide.file_name)
    assert_boxes(client.infer(pil_image, model_id=f"{guide.project_id}/{MODEL_VERSION}"))


def test_a_numpy_array(guide, client):
    numpy_image = cv2.imread(guide.file_name)
    assert_boxes(client.infer(numpy_image, model_id=f"{guide.project_id}/{MODEL_VERSION}"))


def test_both_modes_of_the_client_reach_the_users_model(guide, client):
    with_names = client.infer(guide.file_name, model_id=f"{guide.project_id}/{MODEL_VERSION}")
    client.select_api_v0()
    legacy = client.infer(guide.file_name, model_id=f"{guide.project_id}/{MODEL_VERSION}")
    assert [p["confidence"] for p in legacy["predictions"]] == [p["confidence"] for p in with_names["predictions"]]
