"""Every health route of the dialects."""

from __future__ import annotations

import pytest

WAIT = {"x-wait-for-model": "true"}
LIVE, READY = ("/healthz", "/v1/health/live"), ("/readiness", "/v1/health/ready", "/health", "/models/coco/3/health")


def statuses(house, paths):
    return {house.client.get(path).status_code for path in paths}


def test_a_healthy_server_is_reported_as_healthy_by_every_route(house):
    assert statuses(house, LIVE + READY) == {200}


def test_while_a_part_is_replaced_the_server_is_live_and_not_ready(house):
    house.engine.is_ready = False
    assert statuses(house, LIVE) == {200} and statuses(house, READY) == {503}


def test_a_server_that_cannot_be_started_is_not_live(house):
    house.engine.is_ready = house.engine.is_live = False
    assert statuses(house, LIVE + READY) == {503}
    told = house.client.get("/healthz").json()
    assert told["status"] == "unhealthy" and told["reason"]


@pytest.mark.parametrize("path", ["/models/coco/3/health", "/models/yolov8n-640/health"])
def test_the_health_of_a_model_is_that_of_this_model_alone(house, monkeypatch, path):
    asked = []

    async def ready(manifest=None):
        asked.append(manifest.id)
        return False

    monkeypatch.setattr(house.engine, "ready", ready)
    assert house.client.get(path).status_code == 503 and asked == ["yolov8n-640"]


def test_the_readiness_of_one_model_is_that_it_would_answer_at_once(house, picture):
    answer = house.client.get("/readiness", params={"model": "coco/3"})
    assert answer.status_code == 503 and answer.json() == {
        "status": "not ready", "reason": "'yolov8n-640' is not loaded.",
    }  # fmt: skip
    assert house.client.post("/models/yolov8n-640", content=picture, headers=WAIT).status_code == 200
    answer = house.client.get("/readiness", params={"model": "coco/3"})
    assert answer.status_code == 200 and answer.json() == {"status": "ready"}
    assert house.client.get("/readiness", params={"model": "resnet18"}).status_code == 503


def test_while_a_part_of_others_is_replaced_a_model_that_is_whole_stays_ready(house, picture):
    house.client.post("/models/yolov8n-640", content=picture, headers=WAIT)
    house.engine.is_ready = False
    assert house.client.get("/readiness").status_code == 503
    assert house.client.get("/readiness", params={"model": "yolov8n-640"}).status_code == 200


@pytest.mark.parametrize("name, status", [("nobody/1", 404), ("../etc/passwd", 400), ("x" * 301, 400), ("a\0b", 400)])
def test_the_readiness_of_what_is_no_model_is_refused(house, name, status):
    assert house.client.get("/readiness", params={"model": name}).status_code == status
