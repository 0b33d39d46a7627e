"""Every health route of the dialects."""

from __future__ import annotations

import pytest

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
