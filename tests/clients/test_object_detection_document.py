"""Hugging Face's object detection document, table by table, against the running server.

Its example model is not in the tests' repository, so another detector is asked under its own id.
"""

from __future__ import annotations

import base64
import json
import time

import httpx
import pytest
from huggingface_hub import InferenceClient

MODEL = "rfdetr-nano"
KEY = "hf_0123456789"


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=120) as client:
        client.post("/model/add", json={"model_id": MODEL})
        yield client


def post(http: httpx.Client, body=None, **more):
    kind = {"json": body} if isinstance(body, dict) else {"content": body}
    return http.post(f"/models/{MODEL}", **kind, **more)


def found(answer: httpx.Response) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return json.loads(answer.content)


# ---- request: the payload --------------------------------------------------------------------------------------------


def test_inputs_are_the_picture_as_a_base64_encoded_string(http, photo):
    assert found(post(http, {"inputs": base64.b64encode(photo).decode(), "parameters": {"threshold": 0.01}}))


def test_without_parameters_the_picture_may_be_the_raw_payload(http, photo):
    raw, text = post(http, photo), post(http, {"inputs": base64.b64encode(photo).decode()})
    assert found(raw) == found(text) and raw.content == text.content


def test_inputs_are_required(http):
    for body in ({}, {"parameters": {"threshold": 0.5}}, {"inputs": None}):
        answer = post(http, body)
        assert answer.status_code == 400 and isinstance(answer.json()["error"], str)


def test_parameters_are_an_object_and_optional(http, photo):
    text = base64.b64encode(photo).decode()
    for parameters in ({}, None):
        assert found(post(http, {"inputs": text, "parameters": parameters})) == found(post(http, {"inputs": text}))
    assert post(http, {"inputs": text, "parameters": ["threshold"]}).status_code == 400


def test_the_threshold_is_the_probability_necessary_to_make_a_prediction(http, photo):
    text = base64.b64encode(photo).decode()
    every = found(post(http, {"inputs": text, "parameters": {"threshold": 0}}))
    assert len(every) > 3
    limit = every[len(every) // 2]["score"]
    some = found(post(http, {"inputs": text, "parameters": {"threshold": limit}}))
    assert some == [one for one in every if one["score"] > limit] and 0 < len(some) < len(every)
    assert found(post(http, {"inputs": text, "parameters": {"threshold": 1}})) == []
    for threshold in ("0.5", -0.1, 1.1, True, [0.5]):
        answer = post(http, {"inputs": text, "parameters": {"threshold": threshold}})
        assert answer.status_code == 400 and "threshold" in answer.json()["error"]


# ---- request: the headers --------------------------------------------------------------------------------------------


def test_authorization_is_a_header_of_the_form_that_is_written_there(serve_with, photo):
    with serve_with("--api-key", KEY) as url:
        for given, status in (
            (f"Bearer: {KEY}", 200), (f"Bearer {KEY}", 200), ("Bearer: hf_another", 401), ("Bearer hf_another", 401),
            (None, 401),
        ):  # fmt: skip
            headers = {"x-wait-for-model": "true"} | ({"authorization": given} if given else {})
            answer = httpx.post(f"{url}/models/mediapipe-face-detection", content=photo, headers=headers, timeout=120)
            assert answer.status_code == status, answer.text
            assert status == 200 or isinstance(answer.json()["error"], str)


def test_use_cache_is_true_by_default_and_false_is_a_real_new_query(http, photo):
    def ask(**headers: str) -> httpx.Response:
        return post(http, photo, params={"threshold": "0.123"}, headers=headers)

    answers = [
        ask(), ask(), ask(**{"x-use-cache": "true"}), ask(**{"x-use-cache": "false"}), ask(**{"X-Use-Cache": "0"}),
    ]  # fmt: skip
    assert [answer.headers["x-cache"] for answer in answers] == ["miss", "hit", "hit", "miss", "miss"]
    assert [answer.headers["x-compute-type"] for answer in answers] == ["cpu", "cache", "cache", "cpu", "cpu"]
    assert len({answer.content for answer in answers}) == 1
    assert all(float(answer.headers["x-compute-time"]) >= 0 for answer in answers)


def test_wait_for_model_is_false_by_default_and_true_waits_instead_of_a_503(http, photo):
    http.post("/model/remove", json={"model_id": MODEL})
    answer = post(http, photo, headers={"x-use-cache": "false"})
    assert answer.status_code == 503 and "retry-after" in answer.headers
    assert MODEL in answer.json()["error"] and isinstance(answer.json()["estimated_time"], float)
    end = time.monotonic() + 60
    while post(http, photo, headers={"x-use-cache": "false"}).status_code == 503:
        assert time.monotonic() < end, "a 503 starts the loading"
        time.sleep(0.5)
    http.post("/model/remove", json={"model_id": MODEL})
    waited = post(http, photo, headers={"x-use-cache": "false", "x-wait-for-model": "true"})
    assert waited.status_code == 200


# ---- response --------------------------------------------------------------------------------------------------------


def test_the_body_is_an_array_of_objects_with_the_fields_and_types_of_the_table(http, photo):
    answer = post(http, {"inputs": base64.b64encode(photo).decode(), "parameters": {"threshold": 0.01}})
    assert answer.headers["content-type"].startswith("application/json")
    rows = found(answer)
    assert isinstance(rows, list) and rows
    for row in rows:
        assert set(row) == {"label", "score", "box"} and set(row["box"]) == {"xmin", "xmax", "ymin", "ymax"}
        assert type(row["label"]) is str and row["label"]
        assert type(row["score"]) is float and 0 <= row["score"] <= 1
        assert all(type(value) is int for value in row["box"].values())
        box = row["box"]
        assert 0 <= box["xmin"] <= box["xmax"] <= 512 and 0 <= box["ymin"] <= box["ymax"] <= 512


def test_the_unmodified_client_reads_it(http, server_url, photo, tmp_path):
    client = InferenceClient(model=f"{server_url}/models/{MODEL}", headers={"x-wait-for-model": "true"})
    path = tmp_path / "picture.png"
    path.write_bytes(photo)
    raw = found(post(http, {"inputs": base64.b64encode(photo).decode(), "parameters": {"threshold": 0.01}}))
    for picture in (photo, str(path), path):
        rows = client.object_detection(picture, threshold=0.01)
        assert [(row.label, row.score, row.box.xmin, row.box.ymin, row.box.xmax, row.box.ymax) for row in rows] == [
            (row["label"], row["score"], *(row["box"][key] for key in ("xmin", "ymin", "xmax", "ymax"))) for row in raw
        ]
