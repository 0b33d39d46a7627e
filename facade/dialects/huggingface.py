"""The Hugging Face Inference dialect: its routes, and the tasks that ask a picture alone.

Its clients name no task: the path names the model, and the model's task says how the body is read. Where a model does
several, what is in the body decides.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision import tasks
from tritonvision.errors import InvalidParameter, ModelLoading, NotSupported, TritonVisionError
from tritonvision.facade.context import context_of, desk_of
from tritonvision.facade.dialects import huggingface_depth, huggingface_text
from tritonvision.facade.dialects import huggingface_format as formats
from tritonvision.facade.dialects.huggingface_request import Asked, Question, Task, boolean, read
from tritonvision.facade.inputs import Pictures
from tritonvision.facade.replies import reply, sentence
from tritonvision.publication import Manifest
from tritonvision.results import MultiLabelClassificationPrediction
from tritonvision.tasks import Parameter

NAME = "huggingface"
PREFIXES = ("/models/", "/pipeline/", "/predict")
_LOADING_SECONDS = 5.0
_PATIENCE = 300.0  # the most a caller who asked to wait for a model waits, seconds
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


async def _detect(question: Question) -> list[dict[str, Any]]:
    answered = await question.about_picture(confidence=question.given(_THRESHOLD)["threshold"])
    result = answered.results[0]
    return formats.boxes(result[1] if isinstance(result, tuple) else result, answered.manifest.labels)


async def _classify(question: Question) -> list[dict[str, Any]]:
    given = question.given(_TOP_K, _FUNCTION)
    answered = await question.about_picture(confidence=0.0, function=given["function_to_apply"])
    result = answered.results[0]
    multi = isinstance(result, MultiLabelClassificationPrediction)
    return formats.classes(
        result.confidence if multi else result.confidence[0], answered.manifest.labels, given["top_k"]
    )


async def _depth(question: Question) -> dict[str, Any]:
    given = question.given(*huggingface_depth.PARAMETERS)
    answered = await question.about_picture()
    return await asyncio.to_thread(huggingface_depth.depth, answered.results[0], answered.manifest, given)


_TASKS = (
    Task("object-detection", (tasks.OBJECT_DETECTION.name, tasks.KEYPOINT_DETECTION.name), _detect),
    Task("image-classification", (tasks.CLASSIFICATION.name,), _classify),
    Task("depth-estimation", (tasks.DEPTH_ESTIMATION.name,), _depth),
    *huggingface_text.TASKS,
)

_BODY = {"requestBody": {"required": True, "content": {
    "image/*": {"schema": {"type": "string", "format": "binary"}},
    "application/json": {"schema": {
        "type": "object", "required": ["inputs"],
        "properties": {
            "inputs": {"description": "The picture in base64, or as the 'image' of an object; or texts, where the "
                                      "model takes them."},
            "question": {"type": "string", "description": "About the picture, for a model that writes."},
            "parameters": {"type": "object", "properties": {
                "threshold": {"type": "number", "description": "0.5, and 0.1 with candidate labels, by default."},
                "top_k": {"type": "integer", "default": _TOP_K.default},
                "function_to_apply": {"enum": list(_FUNCTION.choices)},
                "candidate_labels": {"type": "array", "items": {"type": "string"}},
                "hypothesis_template": {"type": "string"},
                "normalize": {"type": "boolean", "default": False},
                "max_new_tokens": {"type": "integer"},
                "generation_parameters": {"type": "object"},
            }},
        },
    }},
}}}  # fmt: skip


def _tasks_of(manifest: Manifest) -> list[Task]:
    return [task for task in _TASKS if manifest.task in task.does]


def _task(manifest: Manifest, model: str, name: str | None, asked: Asked, pictures: Pictures) -> Task:
    """The task that the path names, or that the request fits. Raises NotSupported, InvalidParameter."""
    possible = _tasks_of(manifest)
    if not possible:
        raise NotSupported(f"'{model}' does {manifest.task}, which this dialect does not answer yet.")
    for task in possible:
        if name == task.name or name is None and task.fits(asked, pictures):
            return task
    raise InvalidParameter(f"'{model}' does {' or '.join(task.name for task in possible)}, not {(name or '')[:60]}.")


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
    possible = _tasks_of(manifest)
    loaded = any(other.id == manifest.id for other in engine.loaded())
    return reply({
        "id": manifest.id, "pipeline_tag": possible[-1].name if possible else manifest.task, "loaded": loaded,
        "state": "Loaded" if loaded else "Loadable", "weights": manifest.weights, "license": manifest.license,
        "version": tritonvision.__version__,
    })  # fmt: skip


@router.post("/models/{model:path}/pipeline/{task}", openapi_extra=_BODY)
@router.post("/pipeline/{task}/{model:path}", openapi_extra=_BODY)
async def pipeline(request: Request, task: str, model: str) -> Response:
    """The model's answer, when the task in the path is one of its own."""
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
    wait = boolean(request.headers.get("x-wait-for-model"), False)
    patience = _PATIENCE if wait else 0.0
    manifest = await desk.manifest(request, model, tasks.TASKS, wait=wait, patience=patience)
    asked = await read(request)
    task = _task(manifest, model, task_name, asked, desk.pictures)
    body = await task.answer(Question(request, manifest, asked, wait, patience))
    seconds = time.perf_counter() - context_of(request).started
    headers = {"x-compute-time": f"{seconds:.3f}"}
    if task.answer is _depth:  # megabytes
        return await asyncio.to_thread(reply, body, headers=headers)
    return reply(body, headers=headers)
