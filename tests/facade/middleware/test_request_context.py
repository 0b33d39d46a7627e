"""Headers and methods that are the same in every dialect."""

from __future__ import annotations

import uuid

import pytest


def test_every_answer_has_a_request_id(house):
    for path in ("/info", "/nothing", "/models/nobody/1", "/infer/object_detection"):
        assert uuid.UUID(house.client.get(path).headers["x-request-id"])


@pytest.mark.parametrize("given, comes_back", [("my-id-1", True), ("x" * 129, False), ("a b", False), ("a\tb", False)])
def test_a_callers_request_id_is_repeated_when_it_is_a_plain_word(house, given, comes_back):
    answer = house.client.get("/info", headers={"x-request-id": given})
    assert (answer.headers["x-request-id"] == given) is comes_back


PREFLIGHT = {
    "origin": "https://example.com", "access-control-request-method": "POST",
    "access-control-request-headers": "content-type",
}  # fmt: skip


def test_other_origins_are_not_allowed_by_default(house):
    answer = house.client.options("/infer/object_detection", headers=PREFLIGHT)
    assert "access-control-allow-origin" not in answer.headers
    answer = house.client.get("/info", headers={"origin": "https://x.org"})
    assert "access-control-allow-origin" not in answer.headers


def test_origins_in_the_settings_are_allowed(house_with):
    house = house_with(cors_origins=frozenset(("https://example.com",)))
    answer = house.client.options("/infer/object_detection", headers=PREFLIGHT)
    assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == "https://example.com"
    assert "access-control-allow-credentials" not in answer.headers
    other = house.client.get("/info", headers={"origin": "https://x.org"})
    assert "access-control-allow-origin" not in other.headers


def test_a_length_that_is_no_number_is_ignored_until_bytes_come(house_with):
    house = house_with(max_body_bytes=1000)
    answer = house.client.post("/model/add", content=b"x" * 1001, headers={"content-length": "-5"})
    assert answer.status_code == 413
    assert house.client.post("/model/add", headers={"content-length": "9" * 40}).status_code == 413


@pytest.mark.parametrize("path", ["/healthz", "/readiness", "/info", "/metrics", "/v1/health/ready", "/openapi.json"])
def test_head_of_an_open_path_is_its_get_without_the_body(house, path):
    head, get = house.client.head(path), house.client.get(path)
    assert head.status_code == get.status_code == 200 and head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize("path", ["/clear_cache", "/start/coco/3", "/coco/3"])
def test_head_of_a_route_that_acts_does_nothing(house, path):
    assert house.client.head(path).status_code == 405
    assert house.engine.loaded() == []
