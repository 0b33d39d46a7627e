"""/metrics: every request by dialect, model and outcome, every stage, and Triton's figures under Triton's names."""

from __future__ import annotations

import re

import exposition
import pytest
from manifests import CLASSIFIER, DETECTOR

from tritonvision.errors import DeadlineExceeded, Overloaded, TritonVisionError
from tritonvision.facade.observability.metrics import outcome

WAIT = {"content-type": "image/jpeg", "x-wait-for-model": "true"}


def samples(house) -> dict[tuple[str, tuple], float]:
    told = exposition.samples(house.client.get("/metrics").text)
    return {(name, tuple(sorted(labels.items()))): value for name, labels, value in told}


def labels(house, name: str) -> list[dict[str, str]]:
    return [dict(labels) for found, labels in samples(house) if found == name]


def ask(house, picture, model=DETECTOR):
    return house.client.post(f"/models/{model}", content=picture, headers=WAIT)


@pytest.mark.parametrize("failure, told", [
    (None, "ok"), (Overloaded(), "busy"), (DeadlineExceeded(), "late"), (TritonVisionError("x"), "failed"),
])  # fmt: skip
def test_a_request_is_counted_by_dialect_model_and_outcome(house, picture, failure, told):
    house.engine.failure = failure
    ask(house, picture)
    (found,) = [one for one in labels(house, "tritonvision_requests_total") if one["model"]]
    assert (found["dialect"], found["model"], found["outcome"]) == ("huggingface", DETECTOR, told)
    seconds = labels(house, "tritonvision_request_seconds_count")
    assert seconds == [{"dialect": "huggingface", "model": DETECTOR, "outcome": told}]


@pytest.mark.parametrize("status, told", [
    (0, "gone"), (200, "ok"), (304, "ok"), (400, "refused"), (404, "refused"), (429, "busy"), (499, "gone"),
    (500, "failed"), (501, "failed"), (502, "failed"), (503, "busy"), (504, "late"), (507, "failed"),
])  # fmt: skip
def test_what_a_status_means(status, told):
    assert outcome(status) == told


def test_stages_are_histograms_of_a_model(house, picture):
    ask(house, picture)
    stages = {one["stage"]: one["model"] for one in labels(house, "tritonvision_stage_seconds_count")}
    assert stages == {"decode": DETECTOR, "encode": DETECTOR}, "the engine in memory has no queue and no Triton"
    buckets = [one for one in labels(house, "tritonvision_stage_seconds_bucket") if one["stage"] == "encode"]
    assert len(buckets) == 16 and {one["le"] for one in buckets} >= {"0.0005", "0.001", "+Inf"}


def test_callers_cannot_make_series(house, picture):
    for n in range(20):
        house.client.post(f"/models/nobody-{n}/1", content=picture)
        house.client.get(f"/nothing-{n}")
    found = samples(house)
    assert {dict(labels)["model"] for name, labels in found if name.startswith("tritonvision_requests")} == {""}
    assert not any(re.search("nobody|nothing", str(key)) for key in found)


def test_the_figures_of_triton_are_told_under_its_own_names(house, picture):
    ask(house, picture, CLASSIFIER)
    found = samples(house)
    key = (("model", CLASSIFIER), ("version", "1"))
    assert found["tritonvision_triton_up", ()] == 1
    assert (found["tritonvision_lost_processes", ()], found["tritonvision_triton_restarts", ()]) == (2, 1)
    assert {
        name.removeprefix("nv_inference_"): value for (name, labels), value in found.items()
        if labels == key and name.startswith("nv_")
    } == {
        "request_success": 2, "request_failure": 1, "count": 3, "exec_count": 2, "request_duration_us": 2_500_000,
        "queue_duration_us": 500_000, "compute_input_duration_us": 250_000, "compute_infer_duration_us": 1_500_000,
        "compute_output_duration_us": 125_000,
    }  # fmt: skip


def test_each_of_several_tritonservers_is_told_by_its_address(house):
    found = {
        (name.removeprefix("tritonvision_endpoint_"), dict(labels)["endpoint"]): value
        for (name, labels), value in samples(house).items() if "_endpoint_" in name
    }  # fmt: skip
    assert found == {
        ("healthy", "gpu-1:8001"): 1, ("requests_total", "gpu-1:8001"): 7, ("failures_total", "gpu-1:8001"): 1,
        ("outstanding", "gpu-1:8001"): 2, ("healthy", "gpu-2:8001"): 0, ("requests_total", "gpu-2:8001"): 3,
        ("failures_total", "gpu-2:8001"): 3, ("outstanding", "gpu-2:8001"): 0,
    }  # fmt: skip


def test_a_triton_that_does_not_answer_leaves_the_other_figures(house, picture):
    ask(house, picture)
    house.engine.is_live = False
    found = samples(house)
    assert found["tritonvision_triton_up", ()] == 0 and not any(name.startswith("nv_") for name, _ in found)
    assert ("tritonvision_loaded_models", ()) in found
