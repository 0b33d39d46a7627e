"""Where a key is required, no closed route answers without it, and no answer or log line repeats one."""

from __future__ import annotations

import base64
import logging

import pytest

KEY = "k-1234567890"
DETECTOR = "yolov8n-640"


@pytest.fixture
def locked(house_with):
    return house_with(api_key=KEY)


def body(picture: bytes, **more) -> dict:
    return {"model_id": DETECTOR, "image": {"type": "base64", "value": base64.b64encode(picture).decode()}, **more}


def test_without_a_configured_key_every_request_is_allowed(house, picture):
    for more in ({}, {"api_key": None}, {"api_key": "whatever"}):
        assert house.client.post("/infer/object_detection", json=body(picture, **more)).status_code == 200
    assert house.client.get("/model/registry", headers={"authorization": "Bearer hf_x"}).status_code == 200


@pytest.mark.parametrize("headers", [
    {"Authorization": f"Bearer {KEY}"}, {"Authorization": f"Bearer: {KEY}"}, {"authorization": f"bearer {KEY}"},
])  # fmt: skip
def test_the_key_in_a_header(locked, picture, headers):
    assert locked.client.post("/infer/object_detection", json=body(picture), headers=headers).status_code == 200
    assert locked.client.post("/model/clear", headers=headers).status_code == 200
    assert locked.client.get("/start/coco/3", headers=headers).status_code == 200
    assert locked.client.post(f"/models/{DETECTOR}", content=picture, headers=headers).status_code == 200


def test_the_key_in_the_query_and_in_the_body(locked, picture):
    assert locked.client.post("/infer/object_detection", json=body(picture, api_key=KEY)).status_code == 200
    assert locked.client.get("/model/registry", params={"api_key": KEY}).status_code == 200
    text = base64.b64encode(picture)
    kind = {"content-type": "application/json"}
    assert locked.client.post("/coco/3", params={"api_key": KEY}, content=text, headers=kind).status_code == 200


def test_a_null_key_is_no_key_and_the_next_place_counts(locked, picture):
    answer = locked.client.post("/infer/object_detection", params={"api_key": "None"}, json=body(picture, api_key=KEY))
    assert answer.status_code == 200


def test_the_query_comes_before_the_header_before_the_body(locked, picture):
    good, bad = {"Authorization": f"Bearer {KEY}"}, {"Authorization": "Bearer other"}
    post = locked.client.post
    assert post("/infer/object_detection", params={"api_key": "x"}, json=body(picture), headers=good).status_code == 401
    assert post("/infer/object_detection", json=body(picture, api_key=KEY), headers=bad).status_code == 401
    assert post("/infer/object_detection", params={"api_key": KEY}, json=body(picture), headers=bad).status_code == 200


CLOSED = [
    ("POST", "/infer/object_detection"), ("POST", "/infer/lmm"), ("GET", "/model/registry"), ("POST", "/model/add"),
    ("POST", "/model/remove"), ("POST", "/model/clear"), ("GET", "/start/coco/3"), ("GET", "/clear_cache"),
    ("GET", "/coco/3"), ("POST", "/coco/3"), ("POST", "/models/coco/3"), ("GET", "/models/coco/3"),
    ("POST", "/pipeline/object-detection/coco/3"), ("POST", "/clip/compare"), ("POST", "/infer/object_detection/"),
    ("HEAD", "/model/registry"),
]  # fmt: skip


@pytest.mark.attack("ways past the key")
@pytest.mark.parametrize("method, path", CLOSED)
def test_everything_else_is_closed(locked, picture, method, path):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}, {"host": "[::1]/info?"}):
        answer = locked.client.request(method, path, content=picture if method == "POST" else None, headers=headers)
        assert answer.status_code in (401, 405), (path, answer.text)
        if answer.status_code == 401 and method != "HEAD":
            assert answer.headers["www-authenticate"] == "Bearer"
            told = answer.json()
            assert isinstance(told["error"], str) if "/models" in path or "/pipeline" in path else told["status"] == 401
    assert locked.engine.asked == [] and locked.engine.loaded() == []


def test_a_wrong_key_gets_the_contracts_error(locked, picture):
    answer = locked.client.post("/infer/object_detection", json=body(picture, api_key="wrong"))
    assert answer.status_code == 401 and answer.json() == {"status": 401, "message": "Unauthorized api_key"}


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/redoc", "/openapi.json", "/info", "/healthz", "/readiness", "/metrics"]
)  # fmt: skip
def test_pages_about_the_server_are_open(locked, path):
    assert locked.client.get(path).status_code == 200


@pytest.mark.attack("ways past the key")
def test_the_path_is_the_servers_own_not_the_host_headers(locked):
    answer = locked.client.get("/model/registry", headers={"host": "localhost/info?x="})
    assert answer.status_code == 401


@pytest.mark.attack("secrets that are told")
def test_no_answer_and_no_log_line_holds_a_key(locked, picture, caplog):
    with caplog.at_level(logging.DEBUG):
        for key in (KEY, "wrong-key-9"):
            for answer in (
                locked.client.post("/infer/object_detection", json=body(picture, api_key=key, model_id="nobody/1")),
                locked.client.get("/model/registry", params={"api_key": key}),
                locked.client.get("/nothing", params={"api_key": key}),
                locked.client.get("/model/registry", headers={"authorization": f"Bearer {key}"}),
            ):
                assert key not in answer.text and key not in str(answer.headers)
    ours = "\n".join(r.getMessage() for r in caplog.records if r.name.startswith("tritonvision"))
    assert "GET /model/registry 401" in ours and KEY not in ours and "wrong-key-9" not in ours


@pytest.mark.attack("ways past the key")
@pytest.mark.parametrize("key", ["\u00e9", "\ud800", 5, ["k"], {"a": 1}, True])
def test_malformed_keys_are_refused(locked, picture, key):
    import json

    content = json.dumps(body(picture, api_key=key)).encode()
    answer = locked.client.post("/infer/object_detection", content=content)
    assert answer.status_code == 401


def test_in_a_long_body_only_a_key_before_the_picture_is_read(locked, picture):
    long = {"padding": "x" * 200_000}
    early = {"api_key": KEY, **body(picture), **long}
    late = {**body(picture), **long, "api_key": KEY}
    assert locked.client.post("/infer/object_detection", json=early).status_code == 200
    refused = locked.client.post("/infer/object_detection", json=late)
    assert refused.status_code == 401 and "early in the JSON" in refused.json()["message"]
    assert locked.client.post("/infer/object_detection", json={**early, "api_key": "wrong"}).status_code == 401


def test_of_a_body_without_a_key_only_the_beginning_is_read(locked):
    read = 0

    def pieces():
        nonlocal read
        for _ in range(100):
            read += 50_000
            yield b" " * 50_000

    answer = locked.client.post("/infer/object_detection", content=pieces())
    assert answer.status_code == 401 and locked.client.app.state.service.admission.bytes == 0
