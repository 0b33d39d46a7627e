"""The unmodified ``huggingface_hub.InferenceClient`` gets right answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

PHOTO = Path(__file__).parents[2] / "tritonvision" / "data" / "astronaut.png"
FACE = "mediapipe-face-detection"


def client_of(server_url: str, model: str) -> InferenceClient:
    return InferenceClient(model=f"{server_url}/models/{model}", headers={"x-wait-for-model": "true"})


def test_object_detection_of_bytes_and_of_a_path(server_url: str):
    client = client_of(server_url, FACE)
    by_bytes, by_path = client.object_detection(PHOTO.read_bytes()), client.object_detection(str(PHOTO))
    assert by_bytes == by_path
    (face,) = by_bytes
    assert face.label == "face" and face.score == pytest.approx(0.9217, abs=1e-3)
    box = face.box
    assert all(isinstance(v, int) for v in (box.xmin, box.ymin, box.xmax, box.ymax))
    assert [box.xmin, box.ymin, box.xmax, box.ymax] == pytest.approx([177, 82, 272, 178], abs=1)


def test_a_threshold_changes_the_answer(server_url: str):
    client = client_of(server_url, "yolov8n-640")
    loose, default = client.object_detection(PHOTO, threshold=0.05), client.object_detection(PHOTO)
    assert len(loose) > len(default) >= 1
    assert all(found.score > 0.5 for found in default)
    scores = [found.score for found in loose]
    assert scores == sorted(scores, reverse=True)
    assert client.object_detection(PHOTO, threshold=0.5) == default


def test_image_classification_and_its_settings(server_url: str):
    client = client_of(server_url, "resnet18")
    assert len(client.image_classification(PHOTO)) == 5
    three = client.image_classification(PHOTO, top_k=3, function_to_apply="sigmoid")
    assert len(three) == 3 and three[0].score >= three[1].score >= three[2].score


def test_an_unknown_model_is_a_404_with_a_sentence(server_url: str):
    with pytest.raises(HfHubHTTPError) as caught:
        client_of(server_url, "nobody/nothing").object_detection(PHOTO)
    assert caught.value.response.status_code == 404 and "nobody/nothing" in str(caught.value)


def test_a_wrong_task_is_a_400_that_names_both(server_url: str):
    with pytest.raises(HfHubHTTPError) as caught:
        InferenceClient(model=f"{server_url}/models/resnet18/pipeline/object-detection").object_detection(PHOTO)
    assert caught.value.response.status_code == 400
    assert "classification" in str(caught.value) and "object-detection" in str(caught.value)
