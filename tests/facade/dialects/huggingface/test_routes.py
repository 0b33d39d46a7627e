"""The Hugging Face dialect follows its contract."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from tritonvision.errors import ModelLoading
from tritonvision.facade import service as desk_module
from tritonvision.results import Detections

DETECTOR, FACE, CLASSIFIER, MANY_LABELS = "yolov8n-640", "mediapipe-face-detection", "resnet18", "mine/weather/1"
WAIT = {"x-wait-for-model": "true"}


@pytest.fixture
def ready(house):
    """The house with its models loaded."""
    for name in (DETECTOR, FACE, CLASSIFIER, MANY_LABELS):
        house.client.post("/model/add", json={"model_id": name})
    return house


def raw(house, picture: bytes, model: str = DETECTOR, headers: dict | None = None, **query):
    return house.client.post(f"/models/{model}", content=picture, headers=headers or {}, params=query)


def sent(house, picture: bytes, model: str = DETECTOR, **parameters):
    return house.client.post(
        f"/models/{model}", json={"inputs": base64.b64encode(picture).decode(), "parameters": parameters}
    )


def test_boxes_are_whole_numbers_in_order(ready, picture):
    answer = raw(ready, picture)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == [
        {"score": pytest.approx(0.9), "label": "dog", "box": {"xmin": 1, "ymin": 2, "xmax": 21, "ymax": 22}},
        {"score": pytest.approx(0.6), "label": "fox", "box": {"xmin": 30, "ymin": 10, "xmax": 40, "ymax": 30}},
    ]
    assert all(type(v) is int for found in json.loads(answer.text) for v in found["box"].values())


def test_boxes_are_clipped_before_they_are_truncated_and_sorted(ready, picture, monkeypatch):
    corners = np.array([[-5.5, -0.5, 3.9, 99.7], [38.2, 29.1, 50, 50], [41, 31, 50, 50], [2, 2, 2, 9]], np.float32)
    found = Detections(
        corners, np.array([0, 1, 2, 0]), np.array([0.6, 0.7, 0.8, 0.9], np.float32), {"height": 30, "width": 40}
    )
    monkeypatch.setattr(ready.engine, "_result", lambda *_: found)
    assert [list(f["box"].values()) for f in raw(ready, picture).json()] == [[38, 29, 40, 30], [0, 0, 3, 30]]


@pytest.mark.parametrize("headers", [
    {}, {"content-type": "image/jpeg"}, {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "application/octet-stream"},
])  # fmt: skip
def test_raw_bytes_need_no_content_type(ready, picture, headers):
    assert raw(ready, picture, headers=headers).status_code == 200
    assert ready.engine.asked[0][1] == [picture]


@pytest.mark.parametrize("headers", [
    {"content-type": "application/json"}, {"content-type": "application/json; charset=utf-8"}, {},
    {"content-type": "application/x-www-form-urlencoded"},
])  # fmt: skip
def test_json_is_recognised_with_and_without_its_type(ready, picture, headers):
    body = b"  \n" + json.dumps({"inputs": base64.b64encode(picture).decode()}).encode()
    assert raw(ready, body, headers=headers).status_code == 200
    assert ready.engine.asked[0][1] == [picture]


def test_every_spelling_of_inputs_is_read(ready, picture):
    text = base64.b64encode(picture).decode()
    for body in (
        {"inputs": f"data:image/jpeg;base64,{text}"}, {"inputs": text.rstrip("=")}, {"inputs": {"image": text}},
        {"image": text}, {"inputs": text, "parameters": {}}, {"inputs": text, "parameters": None, "options": 1},
    ):  # fmt: skip
        assert ready.client.post(f"/models/{DETECTOR}", json=body).status_code == 200, body.keys()
    assert all(pictures == [picture] for _, pictures, _, _ in ready.engine.asked)


def test_the_threshold_reaches_the_model_and_its_default_is_a_half(ready, picture):
    ready.client.headers["x-use-cache"] = "false"
    sent(ready, picture), sent(ready, picture, threshold=0.7), sent(ready, picture, threshold=None), raw(ready, picture)
    raw(ready, picture, threshold="0.25"), sent(ready, picture, threshold=0, other="x")
    assert [p["confidence"] for _, _, p, _ in ready.engine.asked] == [0.5, 0.7, 0.5, 0.5, 0.25, 0.0]


def test_nothing_found_is_an_empty_array(ready, picture):
    answer = sent(ready, picture, threshold=0.99)
    assert answer.status_code == 200 and answer.json() == []


def test_raw_and_json_agree_byte_for_byte(ready, picture):
    assert raw(ready, picture).content == sent(ready, picture).content == sent(ready, picture, threshold=0.5).content


def test_a_key_point_model_gives_its_boxes(ready, picture):
    assert [found["label"] for found in raw(ready, picture, FACE).json()] == ["face", "face"]


def test_classes_are_the_best_five_by_default(ready, picture):
    answer = raw(ready, picture, CLASSIFIER).json()
    assert [c["label"] for c in answer] == ["dog", "cat", "fox"]
    assert answer[0] == {"label": "dog", "score": pytest.approx(0.62504)}
    assert [c["label"] for c in sent(ready, picture, CLASSIFIER, top_k=1).json()] == ["dog"]
    assert [c["label"] for c in raw(ready, picture, CLASSIFIER, top_k="2").json()] == ["dog", "cat"]
    assert len(sent(ready, picture, CLASSIFIER, top_k=None).json()) == 3


def test_function_to_apply_reaches_the_model(ready, picture):
    for function in ("sigmoid", "softmax", "none", None):
        sent(ready, picture, CLASSIFIER, function_to_apply=function)
    assert [p["function"] for _, _, p, _ in ready.engine.asked] == ["sigmoid", "softmax", "none", None]


def test_independent_labels_are_classes_too(ready, picture):
    assert raw(ready, picture, MANY_LABELS).json() == [
        {"label": "sunny", "score": 0.75}, {"label": "windy", "score": 0.125},
    ]  # fmt: skip


@pytest.mark.parametrize("path", [
    "/models/coco/3", "/models/coco/3/", "/models/coco/3/pipeline/object-detection",
    "/pipeline/object-detection/coco/3", f"/models/{DETECTOR}/pipeline/object-detection",
])  # fmt: skip
def test_every_form_of_the_path_reaches_the_model(ready, picture, path):
    answer = ready.client.post(path, content=picture, follow_redirects=False)
    assert answer.status_code == 200 and len(answer.json()) == 2


def test_another_task_in_the_path_is_a_400_that_names_both(ready, picture):
    answer = ready.client.post(f"/pipeline/image-classification/{DETECTOR}", content=picture)
    assert answer.status_code == 400
    assert "image-classification" in answer.json()["error"] and "object-detection" in answer.json()["error"]


@pytest.mark.parametrize("parameters", [
    {"threshold": 1.5}, {"threshold": -0.1}, {"threshold": "0.5"}, {"threshold": True}, {"threshold": [0.5]},
])  # fmt: skip
def test_a_bad_threshold_is_a_400(ready, picture, parameters):
    answer = sent(ready, picture, **parameters)
    assert answer.status_code == 400 and "threshold" in answer.json()["error"]


@pytest.mark.parametrize("parameters", [
    {"top_k": 0}, {"top_k": "many"}, {"top_k": 1.5}, {"top_k": True}, {"function_to_apply": "relu"},
    {"function_to_apply": ["none"]},
])  # fmt: skip
def test_bad_parameters_of_a_classifier_are_a_400(ready, picture, parameters):
    answer = sent(ready, picture, CLASSIFIER, **parameters)
    assert answer.status_code == 400 and next(iter(parameters)) in answer.json()["error"]


def test_bad_query_parameters_are_a_400(ready, picture):
    for query in ({"threshold": "high"}, {"threshold": "nan"}, {"threshold": "2"}):
        assert raw(ready, picture, **query).status_code == 400


@pytest.mark.parametrize("body", [
    {"inputs": 5}, {"inputs": ""}, {"inputs": None}, {"inputs": ["a", "b"]}, {"inputs": "%%%"},
    {"inputs": {"image": 1}}, {}, [], "text", 5, None, {"inputs": "QUJD"}, {"parameters": {"threshold": 0.5}},
])  # fmt: skip
def test_json_without_a_picture_is_a_400(ready, body):
    answer = ready.client.post(f"/models/{DETECTOR}", json=body)
    assert answer.status_code == 400 and isinstance(answer.json()["error"], str), answer.text


@pytest.mark.parametrize("content, kind", [
    (b"", "image/jpeg"), (b"", None), (b"no picture", None), (b"{", None), (b"{", "application/json"),
    (b"", "application/json"), (b'{"a": 1}', None), (b"\x93NUMPY\x01\x00", None),
])  # fmt: skip
def test_a_body_that_is_neither_a_picture_nor_json_is_a_400(ready, content, kind):
    answer = raw(ready, content, headers={"content-type": kind} if kind else {})
    assert answer.status_code == 400 and isinstance(answer.json()["error"], str), answer.text


def test_parameters_that_are_no_object_are_a_400(ready, picture):
    body = {"inputs": base64.b64encode(picture).decode(), "parameters": [1]}
    assert ready.client.post(f"/models/{DETECTOR}", json=body).status_code == 400


# ---- readiness -------------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_loaded_is_a_503_until_it_is_loaded(house, picture):
    answer = raw(house, picture)
    assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
    body = answer.json()
    assert DETECTOR in body["error"] and "loading" in body["error"] and body["estimated_time"] == 2.0
    assert raw(house, picture).status_code == 200


@pytest.mark.parametrize("value", ["true", "1", "True", "TRUE"])
def test_a_caller_can_wait_for_a_load(house, picture, value):
    assert raw(house, picture, headers={"X-Wait-For-Model": value}).status_code == 200


@pytest.mark.parametrize("value", ["false", "0", "", "perhaps"])
def test_other_header_values_do_not_wait(house, picture, value):
    assert raw(house, picture, headers={"x-wait-for-model": value}).status_code == 503


@pytest.mark.parametrize("options, headers, status", [
    ({"wait_for_model": True}, {}, 200), ({"wait_for_model": "true"}, {}, 200), ({"wait_for_model": False}, {}, 503),
    ({"wait_for_model": None}, {}, 503), ({"wait_for_model": []}, {}, 503), ([], {}, 503), (None, {}, 503),
    ({"wait_for_model": True}, {"x-wait-for-model": "false"}, 503),
    ({"wait_for_model": False}, {"x-wait-for-model": "1"}, 200),
])  # fmt: skip
def test_options_in_the_body_are_overridden_by_the_headers(house, picture, options, headers, status):
    body = {"inputs": base64.b64encode(picture).decode(), "options": options}
    answer = house.client.post(f"/models/{DETECTOR}", json=body, headers=headers)
    assert answer.status_code == status, answer.text


def test_a_waiting_caller_is_answered_after_a_load_longer_than_the_deadline(house, picture, monkeypatch):
    monkeypatch.setattr(desk_module, "_LOOK", 0.01)
    load, refusals = house.engine.load, [ModelLoading(retry_after=1)] * 3

    async def slow(*args, **options):
        if refusals:
            raise refusals.pop()
        return await load(*args, **options)

    monkeypatch.setattr(house.engine, "load", slow)
    assert raw(house, picture, headers=WAIT).status_code == 200 and not refusals


def test_a_waiting_caller_is_answered_after_an_export(house, picture, monkeypatch):
    monkeypatch.setattr(desk_module, "_LOOK", 0.01)
    published = house.settings.repository / DETECTOR
    hidden = published.rename(house.settings.repository / ".hidden")
    load, looks = house.engine.load, []

    async def exporting(name, *args, **options):
        looks.append(name)
        if len(looks) < 3:
            raise ModelLoading(f"'{name}' is being exported.", retry_after=10)
        if hidden.exists():
            hidden.rename(published)
        return await load(name, *args, **options)

    monkeypatch.setattr(house.engine, "load", exporting)
    refused = raw(house, picture)
    assert refused.status_code == 503 and refused.headers["retry-after"] == "10" and len(looks) == 1
    assert raw(house, picture, headers=WAIT).status_code == 200


def test_an_unknown_model_is_a_404_at_once(house, picture):
    for headers in ({}, WAIT):
        answer = raw(house, picture, "nobody/nothing", headers)
        assert answer.status_code == 404 and "nobody/nothing" in answer.json()["error"]


def test_a_model_of_another_task_is_a_501_that_names_its_task(whole_house, picture):
    answer = raw(whole_house, picture, "l2cs-gaze", WAIT)
    assert answer.status_code == 501 and "does gaze-detection" in answer.json()["error"]
    assert whole_house.engine.asked == []


def test_another_models_task_and_an_unknown_one_are_a_400(ready, picture):
    for task in ("document-question-answering", "mind-reading"):
        for path in (f"/pipeline/{task}/{DETECTOR}", f"/models/{DETECTOR}/pipeline/{task}"):
            answer = ready.client.post(path, content=picture)
            assert answer.status_code == 400 and task in answer.json()["error"]


def test_headers_of_an_answer(ready, picture):
    answer = raw(ready, picture, headers={"x-amzn-trace-id": "trace-1"})
    assert answer.headers["x-request-id"] == "trace-1" and float(answer.headers["x-compute-time"]) >= 0


# ---- status ----------------------------------------------------------------------------------------------------------


def test_status_of_a_model(house):
    answer = house.client.get("/models/coco/3").json()
    assert answer["id"] == DETECTOR and answer["pipeline_tag"] == "object-detection" and answer["loaded"] is False
    house.client.post("/model/add", json={"model_id": DETECTOR})
    assert house.client.get(f"/models/{DETECTOR}/info").json()["loaded"] is True
    assert house.client.get("/models/coco/3/health").status_code == 200


def test_the_servers_own_health(house):
    assert house.client.get("/health").status_code == 200
    house.engine.is_ready = False
    assert house.client.get("/health").status_code == 503


@pytest.mark.parametrize("path", ["/models/nobody/1", "/models/nobody/1/health", "/models/nobody/1/info"])
def test_the_status_of_an_unknown_model_is_a_404(house, path):
    answer = house.client.get(path)
    assert answer.status_code == 404 and isinstance(answer.json()["error"], str)


def test_a_path_without_a_model_is_a_404(house, picture):
    for path in ("/", "/predict"):
        answer = house.client.post(path, content=picture)
        assert answer.status_code == 404 and isinstance(answer.json()["error"], str)


def test_other_routes_and_methods_have_an_error_string(house):
    assert house.client.put(f"/models/{DETECTOR}").status_code == 405
    assert isinstance(house.client.put(f"/models/{DETECTOR}").json()["error"], str)
    assert isinstance(house.client.get("/pipeline/x").json()["error"], str)
