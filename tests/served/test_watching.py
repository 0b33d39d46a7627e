"""A running server tells how long each stage took: in /metrics, in its log, and as a trace through Triton's steps."""

from __future__ import annotations

import time

import exposition
import httpx
import pytest
from collector import attributes, collector

FACE = "mediapipe-face-detection"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = {"decode", "load", "queue", "triton", "pre", "network", "post", "encode"}
REQUESTS = 4


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    with collector(tmp_path_factory.mktemp("collector")) as backend:
        yield backend


@pytest.fixture(scope="module")
def url(backend, serve_with):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", backend.http)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with serve_with() as url:
            yield url


@pytest.fixture(scope="module")
def asked(url, photo):
    """The answers of some requests, the first of which loads the model."""
    headers = {
        "content-type": "image/png", "x-wait-for-model": "true", "x-use-cache": "false",
        "traceparent": f"00-{TRACE}-{CALLER}-01",
    }  # fmt: skip
    with httpx.Client(base_url=url, timeout=60) as client:
        assert client.get("/readiness", params={"model": FACE}).status_code == 503
        return [client.post(f"/models/{FACE}", content=photo, headers=headers) for _ in range(REQUESTS)]


def samples(url: str) -> dict[tuple[str, tuple], float]:
    told = exposition.samples(httpx.get(f"{url}/metrics").text)
    return {(name, tuple(labels.values())): value for name, labels, value in told}


def test_every_stage_of_every_request_is_in_the_histograms(url, asked):
    assert {answer.status_code for answer in asked} == {200}
    found = samples(url)
    counts = {labels[1]: value for (name, labels), value in found.items() if name == "tritonvision_stage_seconds_count"}
    assert counts == dict.fromkeys(STAGES - {"load"}, REQUESTS) | {"load": 1}
    seconds = {labels[1]: value for (name, labels), value in found.items() if name == "tritonvision_stage_seconds_sum"}
    within = seconds["pre"] + seconds["network"] + seconds["post"]
    assert 0 < within < seconds["triton"]
    whole = sum(value for (name, _), value in found.items() if name == "tritonvision_request_seconds_sum")
    assert seconds["triton"] + seconds["load"] < whole


def test_the_figures_of_triton_stand_beside_them(url, asked):
    found = samples(url)
    assert found["tritonvision_triton_up", ()] == 1
    for model in (FACE, f"net--{FACE}"):
        assert found["nv_inference_request_success", (model, "1")] >= REQUESTS
        assert found["nv_inference_request_duration_us", (model, "1")] > 0
    assert found["nv_inference_compute_infer_duration_us", (f"net--{FACE}", "1")] > 0


def test_a_model_that_answered_is_ready(url, asked):
    assert httpx.get(f"{url}/readiness", params={"model": FACE}).json() == {"status": "ready"}


def test_a_trace_goes_from_the_caller_through_the_facade_into_the_steps_of_triton(backend, asked):
    def whole(spans):
        own = [span for span in spans if span.trace_id.hex() == TRACE]
        return own if sum(span.name == "post" for span in own) == REQUESTS else None

    spans = backend.wait_for(whole)
    by_id = {span.span_id: span for span in spans}
    last = max((span for span in spans if span.name == "network"), key=lambda span: span.end_time_unix_nano)
    call = by_id[last.parent_span_id]
    request = by_id[call.parent_span_id]
    assert (call.name, request.name) == ("triton", "POST /models/{model:path}")
    assert request.parent_span_id.hex() == CALLER
    parts = sorted((s for s in spans if s.parent_span_id == call.span_id), key=lambda s: s.start_time_unix_nano)
    assert [span.name for span in parts] == ["pre", "network", "post"]
    assert attributes(last)["tritonvision.triton_model"] == f"net--{FACE}"
    assert all(before.end_time_unix_nano <= after.start_time_unix_nano for before, after in zip(parts, parts[1:]))
    for inner, outer in ((last, call), (call, request)):
        assert outer.start_time_unix_nano - 1e6 <= inner.start_time_unix_nano
        assert inner.end_time_unix_nano <= outer.end_time_unix_nano + 1e6
    assert abs(request.end_time_unix_nano / 1e9 - time.time()) < 120
