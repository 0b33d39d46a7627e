"""``GET /model/facts``: the facts from which a client makes results in Python, under every name of a model."""

from __future__ import annotations

import pytest

DETECTOR = "yolov8n-640"


@pytest.mark.parametrize("name", [DETECTOR, "coco/3", "workspace/coco/3"])
def test_every_name_of_a_model_gives_the_same_facts(house, name):
    answer = house.client.get(f"/model/facts/{name}")
    manifest = house.engine.repository.resolve(DETECTOR)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["id"], told["task"], told["backend"]) == (DETECTOR, "object-detection", "onnx")
    assert told["labels"] == list(manifest.labels) and told["weights"] == manifest.weights
    assert set(told) == {
        "id", "task", "family", "license", "weights", "backend", "labels", "keypoint_labels", "multi_label",
        "map_meaning", "grounding", "grounding_pixels", "precision", "precisions", "asked_as",
        "fingerprint",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "status"), [("nobody/1", 404), ("a/b/c/d", 400), ("%20", 400)])
def test_an_unknown_name_is_refused_in_a_sentence(house, name, status):
    answer = house.client.get(f"/model/facts/{name}")
    assert answer.status_code == status and answer.json()["message"]
