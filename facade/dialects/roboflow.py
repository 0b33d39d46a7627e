"""Roboflow's dialect: the task routes ``/infer/*`` and the legacy route ``/{project}/{version}``."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidPicture, NotSupported, TritonVisionError, Unauthorized
from tritonvision.facade import drawing
from tritonvision.facade.addresses import RESERVED
from tritonvision.facade.context import desk_of, read_json
from tritonvision.facade.desk import Answered, Read
from tritonvision.facade.dialects import roboflow_format as formats
from tritonvision.facade.dialects.roboflow_mask_fields import instances
from tritonvision.facade.dialects.roboflow_models import model_of
from tritonvision.facade.dialects.roboflow_schema import (
    ClassificationRequest,
    DetectionRequest,
    ImageRequest,
    KeypointsRequest,
    LegacyQuery,
    json_schema,
)
from tritonvision.facade.inputs import from_base64
from tritonvision.facade.replies import reply, sentence
from tritonvision.publication import Manifest
from tritonvision.results import Detections
from tritonvision.settings import Settings

NAME = "roboflow"
DETECTION, KEYPOINTS, CLASSES, INSTANCES = (
    task.name
    for task in (
        tasks.OBJECT_DETECTION, tasks.KEYPOINT_DETECTION, tasks.CLASSIFICATION, tasks.INSTANCE_SEGMENTATION,
    )
)  # fmt: skip
# Routes of the contract whose families are not here yet.
NOT_YET = (
    "/infer/semantic_segmentation", "/infer/embeddings", "/perception_encoder/embed_image",
    "/perception_encoder/embed_text", "/perception_encoder/compare", "/easy_ocr/ocr", "/sam2/embed_image",
    "/sam2/segment_image", "/yolo_world/infer",
)  # fmt: skip
Format = Callable[[Any, Manifest], dict[str, Any]]
_UNREADABLE = "Could not load input image. Cause: "


class _Project(Convertor[str]):
    """The first segment of a legacy path."""

    regex = rf"(?!(?:{'|'.join(RESERVED)})/)[A-Za-z0-9._-]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _Version(_Project):
    """The second one."""

    regex = r"[A-Za-z0-9._-]+"


register_url_convertor("roboflow_project", _Project())
register_url_convertor("roboflow_version", _Version())
_LEGACY = "/{project:roboflow_project}/{version:roboflow_version}"
router = APIRouter(tags=["Roboflow"])
legacy = APIRouter(tags=["Roboflow"])


# ---- errors ----------------------------------------------------------------------------------------------------------


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"message"}``."""
    if isinstance(error, Unauthorized):
        return {"status": 401, "message": sentence(error)}
    if isinstance(error, InvalidPicture):
        return {"message": _UNREADABLE + sentence(error)}
    return {"message": sentence(error)}


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"message"}``."""
    return {"message": sentence}


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """``{"detail": [{type, loc, msg}]}``; the values stay out, they may be a picture or a key."""
    return 422, {"detail": [{name: problem[name] for name in ("type", "loc", "msg")} for problem in problems]}


async def read_body(request: Request, model: type[BaseModel]) -> Any:
    """The JSON body as ``model``; null is absent. Raises RequestValidationError."""
    try:
        body = await read_json(request)
    except ValueError as error:
        problem = {"type": "json_invalid", "loc": ("body",), "msg": "The body is not valid JSON."}
        raise RequestValidationError([problem]) from error
    if not isinstance(body, dict):
        problem = {"type": "dict_type", "loc": ("body",), "msg": "The body must be a JSON object."}
        raise RequestValidationError([problem])
    try:
        return model.model_validate({name: value for name, value in body.items() if value is not None})
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([p | {"loc": ("body", *p["loc"])} for p in problems]) from None


# ---- the task routes -------------------------------------------------------------------------------------------------


@router.post("/infer/object_detection", openapi_extra=json_schema(DetectionRequest))
async def object_detection(request: Request) -> Response:
    """Boxes with names. A model of key points or masks answers with its boxes alone."""
    ask = await read_body(request, DetectionRequest)
    return await infer(request, ask, (DETECTION, KEYPOINTS, INSTANCES), formats.detections, only_boxes)


@router.post("/infer/keypoints_detection", openapi_extra=json_schema(KeypointsRequest))
async def keypoints_detection(request: Request) -> Response:
    """Boxes with named points in them."""
    ask = await read_body(request, KeypointsRequest)
    return await infer(request, ask, (KEYPOINTS,), partial(formats.keypoints, least=ask.keypoint_confidence))


@router.post("/infer/classification", openapi_extra=json_schema(ClassificationRequest))
async def classification(request: Request) -> Response:
    """Classes of the whole picture, or of each of its ``regions``."""
    ask = await read_body(request, ClassificationRequest)
    regions = None if ask.regions is None else [region.box for region in ask.regions]
    format = partial(formats.classification, least=ask.threshold())
    return await infer(request, ask, (CLASSES,), format, regions=regions)


async def not_yet(request: Request) -> Response:
    """A route of the contract that no model of this server answers yet."""
    raise NotSupported(f"No model of this server answers {request.scope['path']} yet.")


for path in NOT_YET:
    router.add_api_route(path, not_yet, methods=["POST"], summary="Not answered yet")


def only_boxes(result: Any) -> Detections:
    """The boxes of a result of boxes, or of boxes and points."""
    return result[1] if isinstance(result, tuple) else result


async def infer(
    request: Request, ask: ImageRequest, tasks: Collection[str], format: Format,
    reduce: Callable[[Any], Any] = lambda result: result, regions: Sequence[Sequence[float]] | None = None,
) -> Response:  # fmt: skip
    """The answer of a task route.

    Args:
        tasks: that the model may do.
        format: a result in the dialect's JSON.
        reduce: what of a result the route is about.
        regions: parts of the only picture; one answer a region.
    """
    desk = desk_of(request)
    manifest = await model_of(request, ask.model_id, tasks)
    reads: list[Read] = [partial(desk.pictures.read, image.type, image.value) for image in ask.images]
    answered = await desk.ask(request, manifest, reads, ask.settings(manifest), regions=regions)
    answers = []
    pictures = answered.pictures if regions is None else answered.pictures * len(regions)
    for picture, result in zip(pictures, map(reduce, answered.results), strict=True):
        answer = _head(answered, ask.id) | format(result, answered.manifest)
        if ask.visualize_predictions:
            answer["visualization"] = await drawn_text(ask, picture, result, answered.manifest)
        answers.append(answer)
    return reply(answers if ask.many or regions is not None else answers[0])


def _head(answered: Answered, inference_id: str | None) -> dict[str, Any]:
    return {"inference_id": inference_id or str(uuid.uuid4()), "time": answered.seconds}


async def drawn(ask: ImageRequest | LegacyQuery, picture: bytes, result: Any, manifest: Manifest) -> bytes:
    """A JPEG of the picture with its result drawn in, as the request wants it drawn."""
    orient = not ask.disable_preproc_auto_orient
    return await asyncio.to_thread(partial(drawing.annotated, picture, result, manifest, orient, **ask.style))


async def drawn_text(ask: ImageRequest | LegacyQuery, picture: bytes, result: Any, manifest: Manifest) -> str:
    """The same in base64."""
    return base64.b64encode(await drawn(ask, picture, result, manifest)).decode()


# ---- the legacy route ------------------------------------------------------------------------------------------------


@legacy.get(_LEGACY)
@legacy.post(_LEGACY)
async def legacy_infer(
    request: Request, project: str, version: str, query: Annotated[LegacyQuery, Query()]
) -> Response:  # fmt: skip
    """One picture, whatever the model does: as a URL in the query, a form part called ``file``, or the raw body."""
    desk = desk_of(request)
    manifest = await desk.manifest(request, f"{project}/{version}", (DETECTION, KEYPOINTS, CLASSES, INSTANCES))
    settings = query.settings(manifest)
    answered = await desk.ask(request, manifest, [await _legacy_picture(request, query)], settings)
    result, picture = answered.results[0], answered.pictures[0]
    if query.format == "image":
        return Response(await drawn(query, picture, result, answered.manifest), media_type="image/jpeg")
    answer = _head(answered, None) | _legacy_format(manifest, query)(result, answered.manifest)
    if query.format == "image_and_json":
        answer["visualization"] = await drawn_text(query, picture, result, answered.manifest)
    return reply(answer)


def _legacy_format(manifest: Manifest, query: LegacyQuery) -> Format:
    if manifest.task == DETECTION:
        return formats.detections
    if manifest.task == INSTANCES:
        return instances
    if manifest.task == KEYPOINTS:
        return partial(formats.keypoints, least=query.keypoint_confidence)
    return partial(formats.classification, least=query.threshold())


async def _legacy_picture(request: Request, query: LegacyQuery) -> Read:
    """How to read the picture. The body is read here, before anybody waits for the caller to hang up."""
    pictures = desk_of(request).pictures
    body = await request.body()
    if query.image:
        return partial(pictures.read, "url", query.image)
    content_type = request.headers.get("content-type", "")
    if not content_type:
        raise InvalidPicture("The request has no Content-Type.", hint="Send application/json or multipart/form-data.")
    if content_type.lower().startswith("multipart/form-data"):
        file = await _form_file(request, desk_of(request).settings)
        return lambda _: _ready(pictures.encoded(file))
    if not body:
        raise InvalidPicture("The request has no body.")
    if query.image_type.lower() == "numpy":
        return lambda _: pictures.array(body)
    if query.image_type.lower() != "base64":
        raise InvalidPicture(f"Bodies of type '{query.image_type[:40]}' are not read.", hint="Send base64 or numpy.")
    return lambda _: _ready(pictures.encoded(from_base64(body)))


async def _form_file(request: Request, settings: Settings) -> bytes:
    async with request.form(max_files=1, max_fields=100, max_part_size=settings.max_body_bytes) as form:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise InvalidPicture("The form has no file in a part called 'file'.")
        return await part.read()


async def _ready(data: bytes) -> bytes:
    return data
