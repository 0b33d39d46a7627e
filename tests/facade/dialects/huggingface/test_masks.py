"""The Hugging Face dialect's masks: instance segmentation, and mask generation by a grid of points."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import ServerUnavailable

SEGMENTER, CLICKS = "yolov8n-seg-640", "sam-vit_b"
EVENTS = {"accept": "text/event-stream"}


@pytest.fixture
def ready(whole_house):
    """A facade whose callers wait for a load."""
    whole_house.client.headers["x-wait-for-model"] = "true"
    return whole_house


def post(house, model: str, picture: bytes, headers: dict | None = None, **parameters):
    body = {"inputs": base64.b64encode(picture).decode(), "parameters": parameters}
    return house.client.post(f"/models/{model}", json=body, headers=headers or {})


def decoded(text: str) -> Image.Image:
    image = Image.open(io.BytesIO(base64.b64decode(text, validate=True)))
    assert image.format == "PNG" and image.mode == "L"
    return image


def told(answer) -> list[dict]:
    """The events of a stream."""
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream"), answer.text
    *events, nothing = answer.text.split("\n\n")
    assert nothing == ""
    return [json.loads(event.removeprefix("data: ")) for event in events]


# ---- instances -------------------------------------------------------------------------------------------------------


def test_instances_have_a_label_a_score_and_a_picture_of_their_mask(ready, picture):
    found = post(ready, SEGMENTER, picture, threshold=0.5).json()
    assert [(one["label"], round(one["score"], 5)) for one in found] == [("dog", 0.9), ("fox", 0.6)]
    assert all(set(one) == {"label", "score", "mask"} for one in found)
    first, second = (np.array(decoded(one["mask"])) for one in found)
    assert first.shape == (30, 40) and set(np.unique(first)) == {0, 255} and not second.any()
    wanted = np.zeros((30, 40), bool)
    wanted[3:23, 2:22] = np.tril(np.ones((20, 20), bool))
    np.testing.assert_array_equal(first == 255, wanted)


def test_the_threshold_is_nine_tenths_unless_the_request_says_otherwise(ready, picture):
    ready.client.headers["x-use-cache"] = "false"
    ready.client.post(f"/models/{SEGMENTER}", content=picture)
    post(ready, SEGMENTER, picture), post(ready, SEGMENTER, picture, threshold=0.25)
    asked = [parameters for _, pictures, parameters, _ in ready.engine.asked if pictures]
    assert [parameters["confidence"] for parameters in asked] == [0.9, 0.9, 0.25]
    assert all(parameters["mask_format"] == "rle" for parameters in asked)


@pytest.mark.parametrize("parameters", [
    {"subtask": "panoptic"}, {"subtask": "semantic"}, {"subtask": "other"}, {"mask_threshold": 0.3},
    {"overlap_mask_area_threshold": 0.9}, {"threshold": 1.5}, {"threshold": "high"},
])  # fmt: skip
def test_unsupported_settings_of_instances_are_a_400_that_names_them(ready, picture, parameters):
    answer = post(ready, SEGMENTER, picture, **parameters)
    (value,) = parameters.values()
    error = answer.json()["error"]
    assert answer.status_code == 400 and (next(iter(parameters)) in error or str(value) in error)


def test_the_defaults_may_be_given_explicitly(ready, picture):
    given = {"subtask": "instance", "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5, "threshold": 0.9}
    assert post(ready, SEGMENTER, picture, **given).content == post(ready, SEGMENTER, picture).content


# ---- every object of a picture ---------------------------------------------------------------------------------------


def test_every_object_is_a_picture_of_its_mask_and_a_score(ready, picture):
    for answer in (post(ready, CLICKS, picture), ready.client.post(f"/models/{CLICKS}", content=picture)):
        assert answer.status_code == 200 and set(answer.json()) == {"masks", "scores"}
        assert answer.json()["scores"] == pytest.approx([0.9, 0.7, 0.5])
        masks = [np.array(decoded(text)) for text in answer.json()["masks"]]
        assert len(masks) == 3 and all(mask.shape == (30, 40) and mask[5:9, 5:20].all() for mask in masks)
    status = ready.client.get(f"/models/{CLICKS}").json()
    assert status["pipeline_tag"] == "mask-generation"


def test_of_too_many_masks_the_best_are_returned(ready, picture, monkeypatch):
    monkeypatch.setattr("tritonvision.facade.dialects.huggingface.tasks.masks._MOST", 2)
    answer = post(ready, CLICKS, picture).json()
    assert answer["scores"] == pytest.approx([0.9, 0.7]) and len(answer["masks"]) == 2


def test_grid_settings_are_used_and_have_the_references_defaults(ready, picture):
    ready.client.headers["x-use-cache"] = "false"
    post(ready, CLICKS, picture)
    post(ready, CLICKS, picture, points_per_crop=8, points_per_batch=16, pred_iou_thresh=0.5, crops_n_layers=0)
    post(ready, CLICKS, picture, points_per_side=4, points_per_crop=8, stability_score_thresh=0, other=1)
    ready.client.post(f"/models/{CLICKS}", content=picture, params={"points_per_side": "2"})
    first, second, third, fourth = (parameters for _, pictures, parameters, _ in ready.engine.asked if pictures)
    assert first == {
        "points_per_side": 32, "points_per_batch": 64, "pred_iou_thresh": 0.88, "stability_score_thresh": 0.95,
        "stability_score_offset": 1.0, "mask_threshold": 0.0, "crops_nms_thresh": 0.7,
    }  # fmt: skip
    assert (second["points_per_side"], second["points_per_batch"], second["pred_iou_thresh"]) == (8, 16, 0.5)
    assert (third["points_per_side"], third["stability_score_thresh"], fourth["points_per_side"]) == (4, 0.0, 2)


@pytest.mark.parametrize("parameters", [
    {"points_per_side": 0}, {"points_per_crop": 500}, {"points_per_batch": "all"}, {"pred_iou_thresh": 2},
    {"crops_n_layers": 1}, {"crops_nms_thresh": -1},
])  # fmt: skip
@pytest.mark.parametrize("headers", [{}, EVENTS])
def test_an_invalid_grid_is_a_400_that_names_the_setting(ready, picture, parameters, headers):
    answer = post(ready, CLICKS, picture, headers, **parameters)
    assert answer.status_code == 400 and next(iter(parameters)) in answer.json()["error"]


def test_progress_comes_as_events_and_the_masks_last(ready, picture):
    answer = post(ready, CLICKS, picture, EVENTS, points_per_side=10, points_per_batch=40)
    *steps, last = told(answer)
    assert steps == [{"done": done, "total": 100} for done in (0, 40, 80, 100)]
    assert answer.headers["x-cache"] == "miss" and answer.headers["x-compute-type"] == "cpu"
    whole = post(ready, CLICKS, picture, points_per_side=10, points_per_batch=40)
    assert whole.headers["x-cache"] == "hit" and whole.json() == last
    again = post(ready, CLICKS, picture, EVENTS, points_per_side=10, points_per_batch=40)
    assert told(again) == [last] and again.headers["x-cache"] == "hit"


def test_other_tasks_ignore_the_request_for_events(ready, picture):
    answer = post(ready, SEGMENTER, picture, EVENTS)
    assert answer.headers["content-type"] == "application/json" and isinstance(answer.json(), list)


def test_an_error_before_the_first_event_has_a_status_and_later_is_an_event(ready, picture):
    ready.engine.failure = ServerUnavailable("Nobody there.")
    for headers in ({}, EVENTS):
        answer = post(ready, CLICKS, picture, headers)
        assert answer.status_code == 502 and answer.json() == {"error": "Nobody there."}
    ready.engine.failure, ready.engine.late_failure = None, ServerUnavailable("Gone.")
    assert post(ready, CLICKS, picture).status_code == 502
    *_, last = told(post(ready, CLICKS, picture, EVENTS))
    assert last == {"error": "Gone.", "error_type": "generation"}
    ready.engine.late_failure = None
    assert post(ready, CLICKS, picture).headers["x-cache"] == "miss"


def test_a_model_that_is_not_loaded_is_a_503_also_for_events(whole_house, picture):
    for headers in (EVENTS, {}):
        whole_house.client.post("/model/clear")
        answer = post(whole_house, CLICKS, picture, headers)
        assert answer.status_code == 503 and answer.json()["estimated_time"] == 2.0
