"""The Hugging Face Inference dialect: its routes, and the tasks of a picture alone.

Its clients send no task: the path names the model, whose task decides how the body is read. For a model of several
tasks the content of the body decides.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision import tasks
from tritonvision.errors import InvalidParameter, NotSupported, Overloaded, TritonVisionError
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.common.waiting import boolean, wait_of
from tritonvision.facade.dialects.huggingface import responses as formats
from tritonvision.facade.dialects.huggingface.errors import error_body
from tritonvision.facade.dialects.huggingface.request import Asked, Question, Task, options_of, read
from tritonvision.facade.dialects.huggingface.tasks import depth, masks, text
from tritonvision.facade.dialects.openai.routes import complete
from tritonvision.facade.dialects.openai.schemas import ChatRequest
from tritonvision.facade.inputs.pictures import Pictures
from tritonvision.facade.replies import reply
from tritonvision.facade.response_cache import Responses
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Service
from tritonvision.facade.streaming.sse import EventStream, event
from tritonvision.facade.workers import in_thread
from tritonvision.publication import Manifest
from tritonvision.results import MultiLabelClassificationPrediction
from tritonvision.tasks import Parameter

NAME = "huggingface"
_LOADING_SECONDS = 5.0
_DEVICE = "cpu"  # what every configuration that this version writes asks for
_EVENTS = "text/event-stream"
_THRESHOLD = Parameter("threshold", "float", 0.5, 0.0, 1.0)
_TOP_K = Parameter("top_k", "int", 5, 1, 1_000_000)
_FUNCTION = Parameter("function_to_apply", "choice", None, choices=("sigmoid", "softmax", "none"))

router = Routes(tags=["Hugging Face"])


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
    given = question.given(*depth.PARAMETERS)
    answered = await question.about_picture()
    return await in_thread(depth.depth, answered.results[0], answered.manifest, given)


_TASKS = (
    Task(
        "object-detection", (tasks.OBJECT_DETECTION.name, tasks.KEYPOINT_DETECTION.name), _detect, reads=(_THRESHOLD,)
    ),
    text.FEATURES_OF_CLASSIFIERS,
    Task("image-classification", (tasks.CLASSIFICATION.name,), _classify, reads=(_TOP_K, _FUNCTION)),
    Task(
        "depth-estimation", (tasks.DEPTH_ESTIMATION.name,), _depth, reads=depth.PARAMETERS, large=True
    ),
    *masks.TASKS,
    *text.TASKS,
)  # fmt: skip


def _tasks_of(manifest: Manifest) -> list[Task]:
    return [task for task in _TASKS if manifest.task in task.does and task.of(manifest)]


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


@router.get("/health")
async def server_health(request: Request) -> Response:
    """200 while the server would answer, for clients whose URL names no model."""
    return await _health(service_of(request))


@router.get("/models/{model:path}/health")
async def health(request: Request, model: str) -> Response:
    """200 for a model that this server would answer for."""
    service = service_of(request)
    return await _health(service, service.find(request, model))


async def _health(service: Service, manifest: Manifest | None = None) -> Response:
    why_not = await service.why_not_ready(manifest)
    if why_not:
        raise Overloaded(why_not, retry_after=1.0)
    return reply({"status": "ok"})


@router.get("/models/{model:path}")
@router.get("/models/{model:path}/info")  # decorators register from the last to the first: before the greedy path
async def status(request: Request, model: str) -> Response:
    """The model's task, and whether it is loaded."""
    service = service_of(request)
    manifest = service.find(request, model)
    possible = _tasks_of(manifest)
    loaded = any(other.id == manifest.id for other in service.engine.loaded())
    return reply({
        "id": manifest.id, "pipeline_tag": possible[-1].name if possible else manifest.task, "loaded": loaded,
        "state": "Loaded" if loaded else "Loadable", "weights": manifest.weights, "license": manifest.license,
        "version": tritonvision.__version__,
    })  # fmt: skip


class PathChatRequest(ChatRequest):
    """``/models/{model}/v1/chat/completions``: the model of the path overrides that of the body."""

    model: str = ""


@router.post("/models/{model:path}/v1/chat/completions", openapi_extra=json_schema(PathChatRequest))
async def chat_completions(request: Request, model: str) -> Response:
    """The next message of the assistant, as on OpenAI's route: whole, or in pieces as it is generated (``stream``)."""
    wait, wait_timeout = wait_of(request)
    ask = await read_body(request, PathChatRequest)
    return await complete(request, ask, model, wait=wait, wait_timeout=wait_timeout, failed=_stream_failed)


@router.post("/models/{model:path}/pipeline/{task}")
@router.post("/pipeline/{task}/{model:path}")
async def pipeline(request: Request, task: str, model: str) -> Response:
    """The model's answer, when the task in the path is one of its own."""
    return await _answer(request, model, task)


@router.post("/models/{model:path}")
async def infer(request: Request, model: str) -> Response:
    """The model's answer to the picture in the body: raw bytes, or JSON ``{"inputs": base64, "parameters": {}}``."""
    return await _answer(request, model, None)


@router.post("/", include_in_schema=False)
@router.post("/predict", include_in_schema=False)
async def no_model() -> Response:
    """A path that names no model."""
    return reply({"error": "The path names no model: POST to /models/MODEL_ID."}, 404)


# ---- answers ---------------------------------------------------------------------------------------------------------


async def _answer(request: Request, model: str, task_name: str | None) -> Response:
    """The answer: from the cache, computed, or computed with its progress as events."""
    service, kept = service_of(request), _responses_of(request)
    options = await options_of(request)
    wait, wait_timeout = wait_of(request, boolean(options.get("wait_for_model"), False))
    manifest = await service.manifest(request, model, tasks.TASKS, wait=wait, wait_timeout=wait_timeout)
    asked = await read(request)
    task = _task(manifest, model, task_name, asked, service.pictures)
    question = Question(request, manifest, asked, wait, wait_timeout)
    events = inspect.isasyncgenfunction(task.answer) and _EVENTS in request.headers.get("accept", "")
    key = await question.key(task) if kept.limit else None
    if key is not None and _may_be_kept(request, options):
        body = await kept.get(key, manifest)
        if body is not None:
            headers = _told(request, "hit", "cache")
            if events:
                return EventStream(_one_event(body), _stream_failed, headers)
            return Response(body, headers=headers, media_type="application/json")

    def keep(body: bytes) -> None:
        if key is not None:
            kept.put(key, manifest, body)

    if events:
        steps = task.answer(question)
        assert isinstance(steps, AsyncGenerator)
        first = await anext(steps)  # an error before the first event has its own status
        return EventStream(_events(first, steps, keep), _stream_failed, _told(request, "miss", _DEVICE))
    content = await _last(task.answer(question))
    response = await in_thread(reply, content) if task.large else reply(content)
    response.headers.update(_told(request, "miss", _DEVICE))
    keep(bytes(response.body))
    return response


def _may_be_kept(request: Request, options: Mapping[str, Any]) -> bool:
    """Whether the caller allows a cached answer."""
    return boolean(request.headers.get("x-use-cache"), boolean(options.get("use_cache"), True))


async def _last(answer: Awaitable[Any] | AsyncGenerator[Any, None]) -> Any:
    """The answer; of an answer in steps, the last one."""
    if inspect.isawaitable(answer):
        return await answer
    async with aclosing(answer):
        steps = [step async for step in answer]
    return steps[-1]


async def _events(
    first: Any, steps: AsyncGenerator[Any, None], keep: Callable[[bytes], None]
) -> AsyncGenerator[bytes, None]:
    """Every step as an event; the last one is the answer, and is cached."""
    async with aclosing(steps):
        told = event(first)
        yield told
        async for step in steps:
            told = await in_thread(event, step)
            yield told
    keep(told.removeprefix(b"data: ").rstrip())


async def _one_event(body: bytes) -> AsyncGenerator[bytes, None]:
    yield b"data: " + body + b"\n\n"


def _stream_failed(error: TritonVisionError) -> bytes:
    # the client reads the kind of error there
    return event(error_body(error) | {"error_type": "generation"})


def _told(request: Request, cache: str, device: str) -> dict[str, str]:
    seconds = time.perf_counter() - context_of(request).started
    return {"x-cache": cache, "x-compute-type": device, "x-compute-time": f"{seconds:.3f}"}


def _responses_of(request: Request) -> Responses:
    return request.app.state.responses
