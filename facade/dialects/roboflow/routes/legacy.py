"""Roboflow's dialect: the legacy route ``/{project}/{version}``, which matches every path of two segments."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartParser
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from tritonvision.errors import InvalidPicture
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.roboflow import responses as formats
from tritonvision.facade.dialects.roboflow.mask_fields import instances
from tritonvision.facade.dialects.roboflow.routes.tasks import (
    CLASSES,
    DETECTION,
    INSTANCES,
    KEYPOINTS,
    Format,
    drawn,
    drawn_text,
    head_of,
)
from tritonvision.facade.dialects.roboflow.schemas import LegacyQuery
from tritonvision.facade.inputs.pictures import decoded
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Read
from tritonvision.facade.workers import LARGE
from tritonvision.publication import Manifest
from tritonvision.settings import Settings

# The body is in memory when it is parsed; parts in files would need a disk that is not full. No part is larger.
MultiPartParser.spool_max_size = 2**40


class _Segment(Convertor[str]):
    """A segment of a legacy path."""

    regex = r"[A-Za-z0-9._-]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def router(reserved: Collection[str]) -> APIRouter:
    """The route, for every first segment that is not ``reserved`` for other routes."""

    class Project(_Segment):
        regex = rf"(?!(?:{'|'.join(map(re.escape, sorted(reserved)))})/){_Segment.regex}"

    register_url_convertor("roboflow_project", Project())
    register_url_convertor("roboflow_version", _Segment())
    routes = Routes(tags=["Roboflow"])
    path = "/{project:roboflow_project}/{version:roboflow_version}"
    routes.add_api_route(path, legacy_infer, methods=["POST"])
    routes.add_api_route(path, legacy_infer, methods=["GET"])
    return routes


async def legacy_infer(
    request: Request, project: str, version: str, query: Annotated[LegacyQuery, Query()]
) -> Response:  # fmt: skip
    """One picture, for a model of any task: as a URL in the query, a form part called ``file``, or the raw body."""
    service = service_of(request)
    manifest = await service.manifest(request, f"{project}/{version}", (DETECTION, KEYPOINTS, CLASSES, INSTANCES))
    settings = query.settings(manifest)
    answered = await service.ask(request, manifest, [await _legacy_picture(request, query)], settings)
    result, picture = answered.results[0], answered.pictures[0]
    if query.format == "image":
        return Response(await drawn(query, picture, result, answered.manifest), media_type="image/jpeg")
    answer = head_of(answered, None) | _legacy_format(manifest, query)(result, answered.manifest)
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
    """How to read the picture. The body is read here, before the handler watches for a disconnect."""
    pictures = service_of(request).pictures
    body = await request.body()
    if query.image:
        return partial(pictures.read, "url", query.image)
    content_type = request.headers.get("content-type", "")
    if not content_type:
        raise InvalidPicture("The request has no Content-Type.", hint="Send application/json or multipart/form-data.")
    if content_type.lower().startswith("multipart/form-data"):
        file = await _form_file(request, service_of(request).settings)
        return lambda _: pictures.encoded(file)
    if not body:
        raise InvalidPicture("The request has no body.")
    if query.image_type.lower() == "numpy":
        return lambda _: pictures.array(body)
    if query.image_type.lower() != "base64":
        raise InvalidPicture(f"Bodies of type '{query.image_type[:40]}' are not read.", hint="Send base64 or numpy.")

    async def read(_: ByteReservation) -> bytes:
        return await pictures.encoded(await decoded(body))

    return read


async def _form_file(request: Request, settings: Settings) -> bytes:
    body = await request.body()
    starts = iter(range(0, len(body), LARGE))

    async def in_pieces() -> Message:
        """The body in pieces, so that other requests run between them: parsing a form is slow."""
        await asyncio.sleep(0)
        start = next(starts, len(body))
        return {"type": "http.request", "body": body[start : start + LARGE], "more_body": start + LARGE < len(body)}

    pieces = Request(request.scope, in_pieces)
    async with pieces.form(max_files=1, max_fields=100, max_part_size=settings.max_body_bytes) as form:
        part = form.get("file")
        if not isinstance(part, UploadFile):
            raise InvalidPicture("The form has no file in a part called 'file'.")
        return await part.read()
