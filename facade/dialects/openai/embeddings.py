"""OpenAI's embeddings: vectors of texts, and of pictures, by the models that have one space for both."""

from __future__ import annotations

import base64
from functools import partial
from typing import Annotated, Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields, json_schema
from tritonvision.facade.dialects.common.waiting import wait_of
from tritonvision.facade.dialects.openai.schemas import picture_of
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Service
from tritonvision.publication import Manifest

router = Routes(tags=["OpenAI"])
_FORMATS = ("float", "base64")


class EmbeddingRequest(RequestFields):
    """``/v1/embeddings``. A text that is too long for the model is refused, as OpenAI does."""

    model: str
    input: Annotated[str | list[Any], AtMost("max_texts")]
    encoding_format: str = "float"
    dimensions: int | None = None

    def things(self) -> list[str | tuple[str, str]]:
        """What to embed, in order: texts, and kind and value of pictures.

        Raises:
            InvalidParameter, InvalidPicture: there is nothing, or something that is neither.
        """
        if self.encoding_format not in _FORMATS:
            raise InvalidParameter(f"'encoding_format' must be {' or '.join(_FORMATS)}.")
        given = [self.input] if isinstance(self.input, str) else self.input
        if not given:
            raise InvalidParameter("There is nothing in 'input'.")
        return [_thing(one) for one in given]


def _thing(value: Any) -> str | tuple[str, str]:
    if isinstance(value, dict) and value.get("type") == "image_url":
        return picture_of(value.get("image_url"))
    if isinstance(value, dict) and value.get("type") == "text":
        value = value.get("text")
    if isinstance(value, str) and not value.strip():
        raise InvalidParameter("An entry of 'input' is an empty text.")
    if not isinstance(value, str):
        raise InvalidParameter(
            "An entry of 'input' is no text.",
            hint='Send texts, or pictures as {"type": "image_url", "image_url": {"url": ...}}; token ids are not read.',
        )
    return value


@router.post("/v1/embeddings", openapi_extra=json_schema(EmbeddingRequest))
async def embeddings(request: Request) -> Response:
    """A vector of length 1 for each entry of ``input``. Tokens are not counted: ``usage`` says 0."""
    ask = await read_body(request, EmbeddingRequest)
    things, service = ask.things(), service_of(request)
    _, wait_timeout = wait_of(request)
    manifest = await service.manifest(request, ask.model, (tasks.EMBEDDING.name,), wait_timeout=wait_timeout)
    vectors = await _vectors(request, service, manifest, things)
    if ask.dimensions not in (None, vectors.shape[1]):
        raise InvalidParameter(f"The vectors of '{ask.model}' have {vectors.shape[1]} dimensions, and are not cut.")
    rows = (base64.b64encode(row).decode() for row in vectors) if ask.encoding_format == "base64" else vectors.tolist()
    return reply({
        "object": "list", "model": ask.model, "usage": {"prompt_tokens": 0, "total_tokens": 0},
        "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
    })  # fmt: skip


async def _vectors(
    request: Request, service: Service, manifest: Manifest, things: list[str | tuple[str, str]]
) -> np.ndarray:
    """float32 little-endian ``[n,D]``, each row of length 1."""
    found: dict[int, np.ndarray] = {}
    texts = {i: thing for i, thing in enumerate(things) if isinstance(thing, str)}
    pictures = {i: thing for i, thing in enumerate(things) if not isinstance(thing, str)}
    settings = tasks.resolve(tasks.EMBEDDING.parameters, {})
    if texts:
        samples = [{"text": text.encode()} for text in texts.values()]
        answered = await service.ask_samples(request, manifest, samples, settings, role="text")
        found |= zip(texts, answered.results, strict=True)
    if pictures:
        reads = [partial(service.pictures.read, kind, value) for kind, value in pictures.values()]
        answered = await service.ask(request, manifest, reads, settings)
        found |= zip(pictures, answered.results, strict=True)
    rows = np.concatenate([np.reshape(found[i], (1, -1)) for i in range(len(things))]).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return np.ascontiguousarray(rows, dtype="<f4")
