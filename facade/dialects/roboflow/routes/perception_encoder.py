"""Roboflow's dialect: ``/perception_encoder/*``, as ``/clip/*`` with models of Perception Encoder."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.routes import vectors
from tritonvision.facade.routing import Routes

router = Routes(tags=["Roboflow"])


class EncoderRequest(vectors.VectorRequest):
    """The version names the model."""

    core: ClassVar[str] = "perception_encoder"
    version: ClassVar[str] = "perception_encoder_version_id"
    most_texts: ClassVar[int | None] = vectors.MOST

    perception_encoder_version_id: str = "PE-Core-L14-336"


class ImagesRequest(EncoderRequest, vectors.Images):
    """``/perception_encoder/embed_image``."""


class TextsRequest(EncoderRequest, vectors.Texts):
    """``/perception_encoder/embed_text``."""


class CompareRequest(EncoderRequest, vectors.Comparison):
    """``/perception_encoder/compare``."""


@router.post("/perception_encoder/embed_image", openapi_extra=json_schema(ImagesRequest))
async def embed_image(request: Request) -> Response:
    """One vector a picture, of length 1."""
    return await vectors.embed_images(request, await read_body(request, ImagesRequest))


@router.post("/perception_encoder/embed_text", openapi_extra=json_schema(TextsRequest))
async def embed_text(request: Request) -> Response:
    """One vector a text, at most eight. A text that is too long is refused."""
    return await vectors.embed_texts(request, await read_body(request, TextsRequest))


@router.post("/perception_encoder/compare", openapi_extra=json_schema(CompareRequest))
async def compare(request: Request) -> Response:
    """The cosine between the subject and each prompt, -1 to 1, by name if the prompts have names."""
    return await vectors.compared(request, await read_body(request, CompareRequest))
