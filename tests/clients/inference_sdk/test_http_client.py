"""The unmodified ``inference_sdk.InferenceHTTPClient`` gets right answers, in both of its modes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError
from PIL import Image

FACE = "mediapipe-face-detection"
PHOTO = Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png"
# MediaPipe's own answer for the photo: centre and size of the face, pixels.
FACE_BOX = {"x": 225.23, "y": 130.55, "width": 95.34, "height": 95.34}


@pytest.fixture
def client(server_url: str) -> InferenceHTTPClient:
    return InferenceHTTPClient(api_url=server_url, api_key="any")


def assert_the_face(answer: dict, pixels: float = 0.5) -> None:
    assert answer["image"] == {"width": 512, "height": 512}
    (face,) = answer["predictions"]
    assert face["class"] == "face" and face["confidence"] == pytest.approx(0.92, abs=0.03)
    for name, value in FACE_BOX.items():
        assert face[name] == pytest.approx(value, abs=pixels)
    assert [point["class"] for point in face["keypoints"]] == [
        "right-eye", "left-eye", "nose", "mouth", "right-ear", "left-ear",
    ]  # fmt: skip


def test_a_file_on_disk(client):
    assert_the_face(client.infer(str(PHOTO), model_id=FACE))


def test_a_pillow_image(client):
    assert_the_face(client.infer(Image.open(PHOTO).convert("RGB"), model_id=FACE), pixels=3)


def test_a_numpy_array(client):
    assert_the_face(client.infer(cv2.imread(str(PHOTO)), model_id=FACE), pixels=3)


def test_a_list_of_pictures_in_one_request(client):
    client.configure(InferenceConfiguration(max_batch_size=3))
    answers = client.infer([str(PHOTO)] * 3, model_id=FACE)
    assert len(answers) == 3
    for answer in answers:
        assert_the_face(answer)


def test_a_threshold_of_the_clients_configuration(client):
    client.configure(InferenceConfiguration(confidence_threshold=0.97))
    assert client.infer(str(PHOTO), model_id=FACE)["predictions"] == []


def test_a_detector_by_its_catalogue_name(client):
    answer = client.infer(str(PHOTO), model_id="yolov8n-640")
    assert 1 <= len(answer["predictions"]) <= 300
    for found in answer["predictions"]:
        assert {"x", "y", "width", "height", "confidence", "class", "class_id", "detection_id"} <= found.keys()
        assert found["confidence"] >= 0.4
    few = InferenceConfiguration(max_detections=2, confidence_threshold=0.1)
    with client.use_configuration(few):
        assert len(client.infer(str(PHOTO), model_id="yolov8n-640")["predictions"]) == 2


def test_a_classifier(client):
    with client.use_configuration(InferenceConfiguration(confidence_threshold=0.0)):
        answer = client.infer(str(PHOTO), model_id="resnet18")
    assert len(answer["predictions"]) == 1000
    assert answer["top"] == answer["predictions"][0]["class"]
    scores = [found["confidence"] for found in answer["predictions"]]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1, abs=0.05)


def test_the_legacy_route(server_url: str):
    client = InferenceHTTPClient(api_url=server_url, api_key="any")
    client.select_api_v0()
    assert_the_face(client.infer(str(PHOTO), model_id="mediapipe/face-detector"))
    assert len(client.infer(str(PHOTO), model_id="coco/3")["predictions"]) >= 1


def test_a_drawn_answer(server_url: str):
    client = InferenceHTTPClient(api_url=server_url, api_key="any")
    client.configure(InferenceConfiguration(visualize_predictions=True))
    answer = client.infer(str(PHOTO), model_id=FACE)
    assert answer["visualization"]


def test_models_are_listed_loaded_and_unloaded(client):
    client.load_model(FACE)
    loaded = {model.model_id: model.task_type for model in client.list_loaded_models().models}
    assert loaded[FACE] == "keypoint-detection"
    client.unload_model(FACE)
    assert FACE not in {model.model_id for model in client.list_loaded_models().models}
    assert client.get_server_info().name


def test_an_unknown_model_is_a_clear_404(client):
    with pytest.raises(HTTPCallErrorError) as caught:
        client.infer(str(PHOTO), model_id="nobody/1")
    assert caught.value.status_code == 404 and "nobody/1" in caught.value.api_message


def test_an_unreadable_picture_is_a_clear_400(client, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(np.random.default_rng(0).bytes(500))
    with pytest.raises(HTTPCallErrorError) as caught:
        client.infer(str(broken), model_id=FACE)
    assert caught.value.status_code == 400 and "Could not load input image" in caught.value.api_message
