"""The Hugging Face Inference dialect: object detection, image classification and depth estimation.

Its clients name no task: the path names the model, and the model's task says how the body is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture, ModelLoading, NotSupported, TritonVisionError
from tritonvision.facade.context import desk_of, read_json
from tritonvision.facade.desk import Read
from tritonvision.facade.dialects import huggingface_depth
from tritonvision.facade.dialects.roboflow_format import name_of
from tritonvision.facade.inputs import Pictures
from tritonvision.facade.replies import reply, sentence
from tritonvision.publication import Manifest
from tritonvision.results import Detections, MultiLabelClassificationPrediction
from tritonvision.tasks import Parameter

NAME = "huggingface"
PREFIXES = ("/models/", "/pipeline/", "/predict")
_LOADING_SECONDS = 5.0
_PATIENCE = 300.0  # the most a caller who asked to wait for a model waits, seconds
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_THRESHOLD = Parameter("threshold", "float", 0.5, 0.0, 1.0)
_TOP_K = Parameter("top_k", "int", 5, 1, 1_000_000)
_FUNCTION = Parameter("function_to_apply", "choice", None, choices=("sigmoid", "softmax", "none"))

router = APIRouter(tags=["Hugging Face"])


# ---- errors ----------------------------------------------------------------------------------------------------------


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"error"}``, and ``estimated_time`` in seconds while a model loads."""
    if isinstance(error, ModelLoading):
        return {"error": sentence(error), "estimated_time": float(error.retry_after or _LOADING_SECONDS)}
    return {"error": sentence(error)}


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"error"}``."""
    return {"error": sentence}


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """``{"error": [sentence, ...]}``."""
    return 400, {"error": [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems]}


# ---- the tasks -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Task:
    """One task of the dialect.

    Attributes:
        name: as its paths spell it.
        does: the tasks of ours that answer it.
        parameters: what a request may set.
        settings: the model's settings for those.
        format: a result in the dialect's JSON.
    """

    name: str
    does: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    settings: Callable[[Mapping[str, Any]], dict[str, Any]]
    format: Callable[[Any, Manifest, Mapping[str, Any]], list[dict[str, Any]] | dict[str, Any]]


def _boxes(result: Any, manifest: Manifest, _: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Corners clipped to the picture, then cut to whole pixels; boxes of no area are left out."""
    found: Detections = result[1] if isinstance(result, tuple) else result
    corners = found.xyxy.astype(np.float64).reshape(-1, 4)
    if found.image_metadata:
        size = [found.image_metadata["width"], found.image_metadata["height"]]
        corners = np.clip(corners, 0, size * 2)
    seen = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    order = np.argsort(-found.confidence, kind="stable")
    whole = corners.astype(np.int64).tolist()
    return [
        {
            "score": float(found.confidence[i]),
            "label": name_of(manifest.labels, int(found.class_id[i])),
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), whole[i], strict=True)),
        }
        for i in order[seen[order]].tolist()
    ]


def _classes(result: Any, manifest: Manifest, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The best ``top_k`` classes."""
    multi = isinstance(result, MultiLabelClassificationPrediction)
    scores = result.confidence if multi else result.confidence[0]
    best = np.argsort(-scores, kind="stable")[: given["top_k"]]
    return [{"label": name_of(manifest.labels, i), "score": float(scores[i])} for i in best.tolist()]


_DETECTION = _Task(
    "object-detection", (tasks.OBJECT_DETECTION.name, tasks.KEYPOINT_DETECTION.name), (_THRESHOLD,),
    lambda given: {"confidence": given["threshold"]}, _boxes,
)  # fmt: skip
_CLASSIFICATION = _Task(
    "image-classification", (tasks.CLASSIFICATION.name,), (_TOP_K, _FUNCTION),
    lambda given: {"confidence": 0.0, "function": given["function_to_apply"]}, _classes,
)  # fmt: skip
_DEPTH = _Task(
    "depth-estimation", (tasks.DEPTH_ESTIMATION.name,), huggingface_depth.PARAMETERS, lambda given: {},
    huggingface_depth.depth,
)  # fmt: skip
_TASKS = {task.name: task for task in (_DETECTION, _CLASSIFICATION, _DEPTH)}
_TASK_OF = {name: task for task in _TASKS.values() for name in task.does}

_BODY = {"requestBody": {"required": True, "content": {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {
        "type": "object", "required": ["inputs"],
        "properties": {
            "inputs": {"type": "string", "description": "The picture in base64."},
            "parameters": {"type": "object", "properties": {
                "threshold": {"type": "number", "default": _THRESHOLD.default},
                "top_k": {"type": "integer", "default": _TOP_K.default},
                "function_to_apply": {"enum": list(_FUNCTION.choices)},
            }},
        },
    }},
}}}  # fmt: skip


# ---- routes: the suffixes before the greedy path ---------------------------------------------------------------------


@router.get("/models/{model:path}/health")
async def health(request: Request, model: str) -> Response:
    """200 for a model that this server would answer for."""
    desk_of(request).engine.repository.resolve(model)
    return reply({"status": "ok"})


@router.get("/models/{model:path}")
@router.get("/models/{model:path}/info")  # decorators register from the last to the first: before the greedy path
async def status(request: Request, model: str) -> Response:
    """What the model is, and whether it is loaded."""
    engine = desk_of(request).engine
    manifest = engine.repository.resolve(model)
    task = _TASK_OF.get(manifest.task)
    loaded = any(other.id == manifest.id for other in engine.loaded())
    return reply({
        "id": manifest.id, "pipeline_tag": task.name if task else manifest.task, "loaded": loaded,
        "state": "Loaded" if loaded else "Loadable", "weights": manifest.weights, "license": manifest.license,
        "version": tritonvision.__version__,
    })  # fmt: skip


@router.post("/models/{model:path}/pipeline/{task}", openapi_extra=_BODY)
@router.post("/pipeline/{task}/{model:path}", openapi_extra=_BODY)
async def pipeline(request: Request, task: str, model: str) -> Response:
    """The model's answer, when the task in the path is the model's own."""
    return await _answer(request, model, task)


@router.post("/models/{model:path}", openapi_extra=_BODY)
async def infer(request: Request, model: str) -> Response:
    """The model's answer to the picture in the body: raw bytes, or JSON ``{"inputs": base64, "parameters": {}}``."""
    return await _answer(request, model, None)


@router.post("/", include_in_schema=False)
@router.post("/predict", include_in_schema=False)
async def no_model() -> Response:
    """A path that names no model."""
    return reply({"error": "The path names no model: POST to /models/MODEL_ID."}, 404)


async def _answer(request: Request, model: str, task_name: str | None) -> Response:
    desk = desk_of(request)
    wait = _boolean(request.headers.get("x-wait-for-model"), False)
    patience = _PATIENCE if wait else 0.0
    manifest = await desk.manifest(request, model, tasks.TASKS, wait=wait, patience=patience)
    task = _TASK_OF.get(manifest.task)
    if task is None:
        raise NotSupported(f"'{model}' does {manifest.task}, which this dialect does not answer yet.")
    if task_name not in (None, task.name):
        raise InvalidParameter(f"'{model}' does {task.name}, not {task_name[:60]}.")
    read, given = await _read(request, desk.pictures)
    parameters = tasks.resolve(task.parameters, {p.name: given[p.name] for p in task.parameters if p.name in given})
    settings = tasks.resolve(tasks.TASKS[manifest.task].parameters, task.settings(parameters))
    answered = await desk.ask(request, manifest, [read], settings, wait=wait, patience=patience)
    headers = {"x-compute-time": f"{answered.seconds:.3f}"}
    if task is _DEPTH:  # megabytes
        body = await asyncio.to_thread(task.format, answered.results[0], answered.manifest, parameters)
        return await asyncio.to_thread(reply, body, headers=headers)
    return reply(task.format(answered.results[0], answered.manifest, parameters), headers=headers)


# ---- reading a request -----------------------------------------------------------------------------------------------


async def _read(request: Request, pictures: Pictures) -> tuple[Read, dict[str, Any]]:
    """How to read the picture, and the parameters that are not null. The content type is a hint, not more."""
    data = await request.body()
    is_json = request.headers.get("content-type", "").lower().startswith("application/json")
    if is_json or data.lstrip()[:1] == b"{":
        body = await _json(request)
        if is_json or isinstance(body, dict) and ("inputs" in body or "image" in body):
            return _json_picture(body, pictures), _parameters(body)
    return partial(_encoded, pictures, data), {
        name: _number(value) for name, value in request.query_params.items() if value
    }


async def _json(request: Request) -> Any:
    try:
        return await read_json(request)
    except ValueError as error:
        raise InvalidPicture("The body is neither JSON nor a picture.") from error


def _json_picture(body: Any, pictures: Pictures) -> Read:
    if not isinstance(body, dict):
        raise InvalidPicture("The body must be a JSON object with 'inputs'.")
    value = body.get("inputs", body.get("image"))
    if isinstance(value, dict):
        value = value.get("image")
    if not isinstance(value, str) or not value:
        raise InvalidPicture("'inputs' must be one picture in base64.")
    if value[:8].lower().startswith(("http://", "https://")):
        return partial(pictures.read, "url", value)
    return partial(pictures.read, "base64", value)


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    given = body.get("parameters")
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise InvalidParameter("'parameters' must be an object.")
    return {name: value for name, value in given.items() if value is not None}


async def _encoded(pictures: Pictures, data: bytes, _: Any) -> bytes:
    return pictures.encoded(data)


def _number(text: str) -> Any:
    """A number of the query string, or the text itself."""
    try:
        return float(text)
    except ValueError:
        return text


def _boolean(text: str | None, default: bool) -> bool:
    value = (text or "").strip().lower()
    return value in _TRUE if value in _TRUE + _FALSE else default
