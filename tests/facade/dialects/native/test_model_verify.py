"""``GET /model/verify`` and ``GET /model/times``: what the engine finds, under every name of a model."""

from __future__ import annotations

import math

import pytest

from tritonvision.engine.golden_check import Verdict
from tritonvision.engine.loaded_models import Memory
from tritonvision.engine.model_times import ModelTimes
from tritonvision.golden import Figures

DETECTOR = "yolov8n-640"
DRIFTED = Verdict(
    DETECTOR, "onnxruntime-fp32", {"": (
        Figures("answer", DETECTOR, {"boxes": 3.5, "scores": math.nan, "missing": math.inf},
                {"boxes": 0.01, "scores": 1e-5, "missing": 0.0}),
        Figures("post", "post--dense-boxes", failure="The model failed on this input."),
    )}, "post", "The model failed on this input.",
)  # fmt: skip


def test_a_verdict_is_told_stage_by_stage(house, monkeypatch):
    async def verify(name):
        return DRIFTED

    monkeypatch.setattr(house.engine, "verify", verify)
    answer = house.client.get("/model/verify/coco/3")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["model_id"], told["passed"], told["differs"]) == (DETECTOR, False, "post")
    first, second = told["stages"]
    assert first["found"] == {"boxes": 3.5, "scores": None, "missing": None} and not first["passed"]
    assert first["why"] == "boxes 3.5 > 0.01, scores nan > 1e-05, missing inf > 0"
    assert second == {
        "entry_point": "", "stage": "post", "model": "post--dense-boxes", "passed": False,
        "why": "The model failed on this input.", "found": {}, "bars": {},
    }  # fmt: skip


def test_times_are_told_with_those_of_the_facade(house, monkeypatch):
    async def times(name):
        return house.engine.repository.resolve(name), [ModelTimes("net--x", 4, 2, 4, 0.0, 0.1, 0.2, 0.3, 0.7)]

    monkeypatch.setattr(house.engine, "times", times)
    house.client.post("/infer/object_detection", json={"model_id": DETECTOR, "image": _picture(house)})
    told = house.client.get("/model/times/coco/3").json()
    assert told["model_id"] == DETECTOR and told["entry_points"] == [DETECTOR]
    assert told["request_seconds"] >= told["model_seconds"] > 0
    assert told["times"] == [{
        "model": "net--x", "samples": 4, "executions": 2, "requests": 4, "queue": 0.0, "input": 0.1, "infer": 0.2,
        "output": 0.3, "total": 0.7, "version": "1", "failures": 0,
    }]  # fmt: skip


def test_a_refused_model_is_told_in_the_registry(house, monkeypatch):
    why = "What differs is its network: scores 0.2 > 1e-05."
    monkeypatch.setattr(house.engine, "memory", lambda: Memory(refused={DETECTOR: why}))
    assert house.client.get("/model/registry").json()["refused"] == [{"model_id": DETECTOR, "reason": why}]


@pytest.mark.parametrize("route", ["verify", "times"])
@pytest.mark.parametrize(("name", "status"), [("nobody/1", 404), ("a/b/c/d", 400), ("%20", 400)])
def test_a_name_that_nobody_has_is_refused_in_a_sentence(house, route, name, status):
    answer = house.client.get(f"/model/{route}/{name}")
    assert answer.status_code == status and answer.json()["message"]


def _picture(house) -> dict[str, str]:
    from tritonvision.facade.dialects.operations import PICTURE

    return {"type": "base64", "value": PICTURE}
