"""The snippets of Roboflow's guide that need no client of theirs, as it prints them: host, key, file and id apart."""

from __future__ import annotations

import base64
import pickle
from io import BytesIO

import cv2
import numpy as np
import pytest
import requests
from PIL import Image

API_KEY = "YOUR ROBOFLOW API KEY"


@pytest.fixture
def img_str(guide) -> str:
    image = Image.open(guide.file_name)
    buffered = BytesIO()
    image.save(buffered, quality=100, format="JPEG")
    return base64.b64encode(buffered.getvalue()).decode("ascii")


def assert_boxes(answer: dict) -> None:
    assert answer["image"] == {"width": 512, "height": 512} and answer["predictions"]
    for found in answer["predictions"]:
        assert found["confidence"] >= 0.5 and found["width"] > 0 and found["class"]


@pytest.mark.parametrize("task, model_version", [("object_detection", 1), ("classification", 2), ("segmentation", 3)])
def test_a_batch_of_each_task_that_the_guide_names(guide, img_str, task, model_version):
    infer_payload = {
        "model_id": f"{guide.project_id}/{model_version}",
        "image": [
            {"type": "base64", "value": img_str}, {"type": "base64", "value": img_str},
            {"type": "base64", "value": img_str},
        ],
        "confidence": 0.5,
        "iou_threshold": 0.5,
        "api_key": API_KEY,
    }  # fmt: skip
    res = requests.post(f"{guide.url}/infer/{task}", json=infer_payload)
    predictions = res.json()
    assert res.status_code == 200 and len(predictions) == 3
    without_ids = [
        [{name: found[name] for name in found.keys() - {"detection_id"}} for found in one["predictions"]]
        for one in predictions
    ]
    assert without_ids[0] == without_ids[1] == without_ids[2]
    if task == "classification":  # random weights: no class of a thousand reaches the half
        assert predictions[0]["top"] == "" and predictions[0]["image"] == {"width": 512, "height": 512}
    else:
        assert_boxes(predictions[0])
    if task == "segmentation":
        assert any(len(found["points"]) > 3 for found in predictions[0]["predictions"])


def test_a_picture_by_its_url_on_the_v1_route(guide):
    res = requests.post(
        f"{guide.url}/{guide.project_id}/1?api_key={API_KEY}&confidence=0.5&overlap=0.5&image={guide.image_url}",
    )
    predictions = res.json()
    assert res.status_code == 200
    assert_boxes(predictions)


def test_a_picture_in_base64_on_the_v1_route(guide, img_str):
    res = requests.post(
        f"{guide.url}/{guide.project_id}/1?api_key={API_KEY}&confidence=0.5&overlap=0.5",
        data=img_str,
        headers={"Content-Type": "application/json"},
    )
    predictions = res.json()
    assert res.status_code == 200
    assert_boxes(predictions)


def test_a_pickled_array_on_the_v1_route(guide):
    image = cv2.imread(guide.file_name)
    numpy_data = pickle.dumps(image)
    res = requests.post(
        f"{guide.url}/{guide.project_id}/1?api_key={API_KEY}&image_type=numpy",
        data=numpy_data,
        headers={"Content-Type": "application/json"},
    )
    predictions = res.json()
    assert res.status_code == 200 and len(predictions["predictions"]) >= 1
    # the file holds the same pixels: so does the answer
    by_url = requests.get(f"{guide.url}/{guide.project_id}/1", params={"image": guide.image_url}).json()
    boxes = [np.array([[p["x"], p["y"], p["confidence"]] for p in one["predictions"]]) for one in (predictions, by_url)]
    assert np.allclose(*boxes, atol=1e-3)


def test_the_project_is_reached_with_a_workspace_in_front_of_it(guide, img_str):
    image = {"type": "base64", "value": img_str}
    for name in (f"{guide.project_id}/1", f"my-workspace/{guide.project_id}/1"):
        res = requests.post(f"{guide.url}/infer/object_detection", json={"model_id": name, "image": image})
        assert res.status_code == 200 and res.json()["predictions"]


def test_the_docs_that_the_guide_sends_people_to(guide):
    for page in ("docs", "redoc"):
        assert requests.get(f"{guide.url}/{page}").status_code == 200
    assert "/infer/object_detection" in requests.get(f"{guide.url}/openapi.json").json()["paths"]
