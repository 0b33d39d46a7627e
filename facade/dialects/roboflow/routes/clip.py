"""Roboflow's dialect: ``/clip/*``, embeddings of pictures and texts, and their similarity."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.routes import vectors
from tritonvision.facade.routing import Routes

router = Routes(tags=["Roboflow"])


class ClipRequest(vectors.VectorRequest):
    """The version names the model."""

    core: ClassVar[str] = "clip"
    version: ClassVar[str] = "clip_version_id"

    clip_version_id: str = "ViT-B-16"


class ImagesRequest(ClipRequest, vectors.Images):
    """``/clip/embed_image``."""


class TextsRequest(ClipRequest, vectors.Texts):
    """``/clip/embed_text``."""


class CompareRequest(ClipRequest, vectors.Comparison):
    """``/clip/compare``."""


@router.post("/clip/embed_image", openapi_extra=json_schema(ImagesRequest))
async def embed_image(request: Request) -> Response:
    """One vector a picture, of the length the network gives it."""
    return await vectors.embed_images(request, await read_body(request, ImagesRequest))


@router.post("/clip/embed_text", openapi_extra=json_schema(TextsRequest))
async def embed_text(request: Request) -> Response:
    """One vector a text. A text that is too long is refused."""
    return await vectors.embed_texts(request, await read_body(request, TextsRequest))


@router.post("/clip/compare", openapi_extra=json_schema(CompareRequest))
async def compare(request: Request) -> Response:
    """The cosine between the subject and each prompt, -1 to 1, by name if the prompts have names."""
    return await vectors.compared(request, await read_body(request, CompareRequest))
