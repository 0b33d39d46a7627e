"""Our own routes described."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from tritonvision.facade.dialects.operations import ASKS, Operation

_ID = "5b0c9a0e-0000-4000-8000-000000000000"


class Info(TypedDict):
    """The server."""

    name: str
    version: str
    uuid: str


class Health(TypedDict):
    """How it is, and why where it is not well."""

    status: str
    reason: NotRequired[str]


class Stage(TypedDict):
    """One stage of a model: the largest difference of each output from the recorded one, and the largest allowed."""

    entry_point: str
    stage: str
    model: str
    passed: bool
    why: str
    found: dict[str, float | None]
    bars: dict[str, float]


class Verified(TypedDict):
    """Whether a model answers as it did when it was published, and the stage that differs."""

    model_id: str
    variant: str
    asked: bool
    passed: bool
    differs: str
    why: str
    stages: list[Stage]


class PartTimes(TypedDict):
    """One Triton model: counts, and sums of seconds."""

    model: str
    samples: int
    executions: int
    requests: int
    queue: float
    input: float
    infer: float
    output: float
    total: float
    version: str
    failures: int


class ModelTimes(TypedDict):
    """Where the time of a model's requests went."""

    model_id: str
    entry_points: list[str]
    steps: list[str]
    request_seconds: float
    model_seconds: float
    stage_seconds: dict[str, float]
    times: list[PartTimes]


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/info"): Operation("About this server", Info, {"name": "tritonvision", "version": "0.1.0", "uuid": _ID}),
    ("get", "/healthz"): Operation("Whether this process is well", Health, {"status": "healthy"}),
    ("get", "/readiness"): Operation(
        "Whether requests are answered now, by all models or by one", Health, {"status": "ready"}, statuses=(400, 404)
    ),
    ("get", "/model/verify/{model_id}"): Operation(
        "Whether a model answers as it did when it was published", Verified,
        {
            "model_id": "resnet18", "variant": "onnxruntime-fp32", "asked": True, "passed": True, "differs": "",
            "why": "", "stages": [{
                "entry_point": "", "stage": "answer", "model": "resnet18", "passed": True, "why": "",
                "found": {"scores": 0.0}, "bars": {"scores": 1e-05},
            }],
        }, statuses=ASKS,
    ),
    ("get", "/model/times/{model_id}"): Operation(
        "Where the time of a model's requests went", ModelTimes,
        {
            "model_id": "resnet18", "entry_points": ["resnet18"], "steps": ["net--resnet18"],
            "request_seconds": 0.4, "model_seconds": 0.3, "stage_seconds": {"network": 0.2}, "times": [{
                "model": "net--resnet18", "samples": 8, "executions": 8, "requests": 8, "queue": 0.001, "input": 0.002,
                "infer": 0.2, "output": 0.001, "total": 0.21, "version": "1", "failures": 0,
            }],
        }, statuses=ASKS,
    ),
    ("get", "/metrics"): Operation(
        "Figures for Prometheus", media={"text/plain": {"schema": {"type": "string"}}}, statuses=(401,)
    ),
}  # fmt: skip
