"""Every request is one line in the log, whichever layer answers it, and no request can forge a line."""

from __future__ import annotations

import logging

import pytest

WAIT = {"x-wait-for-model": "true"}


def lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "tritonvision.access"]


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/info", 200), ("GET", "/nothing/here/at/all", 404), ("POST", "/info", 405), ("POST", "/infer/lmm", 422),
    ("OPTIONS", "/info", 405), ("HEAD", "/healthz", 200),
])  # fmt: skip
def test_every_request_is_one_line(house, caplog, method, path, status):
    with caplog.at_level(logging.INFO, "tritonvision.access"):
        house.client.request(method, path, headers={"x-request-id": "mine"})
    (line,) = lines(caplog)
    asked = "GET" if method == "HEAD" else method
    assert line.startswith(f"{asked} {path} {status} ") and line.endswith("request_id=mine")


def test_refused_pages_and_preflights_are_logged(house_with, caplog):
    house = house_with(cors_origins=frozenset(("https://mine.example",)))
    with caplog.at_level(logging.INFO, "tritonvision.access"):
        house.client.post("/model/clear", headers={"origin": "https://evil.example"})
        house.client.options(
            "/model/clear", headers={"origin": "https://mine.example", "access-control-request-method": "POST"}
        )
    assert [line.split()[2] for line in lines(caplog)] == ["403", "200"]


def test_the_path_is_escaped_and_cut_and_the_query_left_out(house, caplog):
    with caplog.at_level(logging.INFO, "tritonvision.access"):
        house.client.get("/a%0A2026-01-01%20INFO%20forged?api_key=secret")
        house.client.get("/" + "x" * 5000)
    forged, long = lines(caplog)
    assert forged.startswith("GET /a%0A2026-01-01%20INFO%20forged 404") and "secret" not in forged
    assert len(long) < 500


def test_the_fields_of_a_line_name_the_request_its_model_its_stages_and_how_it_ended(house, picture, caplog):
    with caplog.at_level(logging.INFO, "tritonvision.access"):
        house.client.post("/models/yolov8n-640", content=picture, headers={"x-request-id": "mine"} | WAIT)
        house.client.get("/nothing")
    asked, nothing = [record.fields for record in caplog.records if record.name == "tritonvision.access"]
    assert (asked["request_id"], asked["model"], asked["dialect"]) == ("mine", "yolov8n-640", "huggingface")
    assert (asked["status"], asked["outcome"], asked["caller"]) == (200, "ok", None)
    assert set(asked["stages_ms"]) == {"decode", "encode"}
    assert all(0 <= took <= asked["ms"] + 0.1 for took in asked["stages_ms"].values())
    assert (nothing["outcome"], nothing["stages_ms"]) == ("refused", {}) and "trace_id" not in nothing
