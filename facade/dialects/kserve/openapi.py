"""Routes of the v2 protocol described: the types of their answers, with examples, and bodies that work."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict

from tritonvision.facade.dialects.operations import ASKS, BINARY, PICTURE, Operation


class KServeError(TypedDict):
    """Why there is no answer."""

    error: str


class V2Server(TypedDict):
    """The server, and the extensions of the protocol that it speaks."""

    name: str
    version: str
    extensions: list[str]


class V2Live(TypedDict):
    """Whether the server lives."""

    live: bool


class V2Ready(TypedDict):
    """Whether it answers, or the model does."""

    ready: bool
    name: NotRequired[str]


class V2Tensor(TypedDict):
    """A tensor of a model; -1 is an axis of any length."""

    name: str
    datatype: str
    shape: list[int]


class V2Model(TypedDict):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2Tensor]
    outputs: list[V2Tensor]


class V2Output(TypedDict):
    """One tensor of an answer; its data follow the JSON where ``binary_data_size`` is in its parameters."""

    name: str
    datatype: str
    shape: list[int]
    data: NotRequired[list[Any]]
    parameters: NotRequired[dict[str, Any]]


class V2Answer(TypedDict):
    """The outputs of a model."""

    model_name: str
    model_version: str
    id: NotRequired[str]
    outputs: list[V2Output]


class V2Index(TypedDict):
    """One published model."""

    name: str
    version: str
    state: str
    reason: str


_IMAGE = {"name": "image", "datatype": "BYTES", "shape": [-1, 1]}
_MODEL = {
    "name": "yolov8n-640", "versions": ["1"], "platform": "ensemble", "inputs": [_IMAGE],
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, -1]}],
}  # fmt: skip
_ANSWER = {
    "model_name": "yolov8n-640", "model_version": "1",
    "outputs": [{"name": "scores", "datatype": "FP32", "shape": [1, 2], "data": [0.9, 0.4]}],
}  # fmt: skip
_ASK = {
    "inputs": [{
        "name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [PICTURE],
        "parameters": {"content_type": "base64"},
    }],
}  # fmt: skip
_PARAMETERS = {"name": "parameters", "shape": [1, 1], "datatype": "BYTES", "data": ['{"confidence": 0.2}']}

OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/v2"): Operation(
        "About the server, for clients of Triton", V2Server,
        {"name": "tritonvision", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
    ),
    ("get", "/v2/health/live"): Operation("Whether the server lives", V2Live, {"live": True}),
    ("get", "/v2/health/ready"): Operation("Whether requests are answered now", V2Ready, {"ready": True}),
    ("get", "/v2/models/{model}"): Operation("What a model takes and gives", V2Model, _MODEL, statuses=ASKS),
    ("get", "/v2/models/{model}/ready"): Operation(
        "Whether a model is answered for", V2Ready, {"name": "yolov8n-640", "ready": True}, statuses=(400, 404)
    ),
    ("get", "/v2/models/{model}/config"): Operation(
        "The config of a model in Triton", dict[str, Any], {"name": "yolov8n-640", "platform": "ensemble"},
        statuses=ASKS,
    ),
    ("get", "/v2/models/{model}/stats"): Operation(
        "What Triton counted of a model", dict[str, Any], {"model_stats": [{"name": "yolov8n-640"}]}, statuses=ASKS
    ),
    ("post", "/v2/models/{model}/infer"): Operation(
        "Ask a model, as tensors", V2Answer, _ANSWER,
        {
            "a picture": _ASK,
            "with settings": {"inputs": [*_ASK["inputs"], _PARAMETERS], "outputs": [{"name": "scores"}], "id": "7"},
        }, ASKS, {"application/octet-stream": BINARY},
    ),
    ("post", "/v2/repository/index"): Operation(
        "The published models, for clients of Triton", list[V2Index],
        [{"name": "yolov8n-640", "version": "1", "state": "READY", "reason": ""}],
    ),
}  # fmt: skip
