"""Roboflow's dialect: the task routes ``/infer/*`` and the legacy route ``/{project}/{version}``."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import NotSupported
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow import responses as formats
from tritonvision.facade.dialects.roboflow.model_choice import model_of
from tritonvision.facade.dialects.roboflow.schemas import (
    ClassificationRequest,
    DetectionRequest,
    ImageRequest,
    KeypointsRequest,
    LegacyQuery,
    PicturesRequest,
)
from tritonvision.facade.rendering import annotated
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Answered, Read
from tritonvision.facade.workers import in_thread
from tritonvision.publication import Manifest
from tritonvision.results import Detections

NAME = "roboflow"
DETECTION, KEYPOINTS, CLASSES, INSTANCES = (
    task.name
    for task in (
        tasks.OBJECT_DETECTION, tasks.KEYPOINT_DETECTION, tasks.CLASSIFICATION, tasks.INSTANCE_SEGMENTATION,
    )
)  # fmt: skip
# Routes of the contract without a family here yet.
NOT_YET = ("/infer/semantic_segmentation",)
Format = Callable[[Any, Manifest], dict[str, Any]]
_UNREADABLE = "Could not load input image. Cause: "


router = Routes(tags=["Roboflow"])


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
    """A route of the contract without a model here yet."""
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
        reduce: the part of a result that the route returns.
        regions: parts of the only picture; one answer a region.
    """
    service = service_of(request)
    manifest = await model_of(request, ask.model_id, tasks)
    reads: list[Read] = [partial(service.pictures.read, image.type, image.value) for image in ask.images]
    answered = await service.ask(request, manifest, reads, ask.settings(manifest), regions=regions)
    answers = []
    pictures = answered.pictures if regions is None else answered.pictures * len(regions)
    for picture, result in zip(pictures, map(reduce, answered.results), strict=True):
        answer = head_of(answered, ask.id) | format(result, answered.manifest)
        if ask.visualize_predictions:
            answer["visualization"] = await drawn_text(ask, picture, result, answered.manifest)
        answers.append(answer)
    return reply(answers if ask.many or regions is not None else answers[0])


def head_of(answered: Answered, inference_id: str | None) -> dict[str, Any]:
    """The first fields of every answer: the caller's id or a new one, and the seconds it took."""
    return {"inference_id": inference_id or str(uuid.uuid4()), "time": answered.seconds}


async def drawn(ask: PicturesRequest | LegacyQuery, picture: bytes, result: Any, manifest: Manifest) -> bytes:
    """A JPEG of the picture with its result drawn in, as the request wants it drawn."""
    orient = not ask.disable_preproc_auto_orient
    return await in_thread(annotated.annotated, picture, result, manifest, orient, **ask.style)


async def drawn_text(ask: PicturesRequest | LegacyQuery, picture: bytes, result: Any, manifest: Manifest) -> str:
    """The same in base64."""
    return base64.b64encode(await drawn(ask, picture, result, manifest)).decode()
