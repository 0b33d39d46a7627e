"""Roboflow's dialect: vectors of pictures and texts, and their similarity, by models of two encoders."""


from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.schemas import AtMost
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.schemas import ImageRequest, Picture
from tritonvision.facade.replies import reply
from tritonvision.publication import Manifest
from tritonvision.vectors import cosines

MOST = 8  # pictures, or prompts, of one request
_NULLS = {"frame_id": None, "parent_id": None}  # the client reads the first one by key


class VectorRequest(BaseModel):
    """The fields of all routes here. The version names the model, unless ``model_id`` does.

    Attributes:
        core: what the contract puts before the version.
        version: name of the field with the version.
        most_texts: of one request; None where only the server limits them.
    """

    model_config = ImageRequest.model_config
    core: ClassVar[str]
    version: ClassVar[str]
    most_texts: ClassVar[int | None] = None

    model_id: str = ""
    id: str | None = None
    disable_preproc_auto_orient: bool = False

    def settings(self) -> dict[str, Any]:
        """Every setting of the task."""
        return tasks.resolve(tasks.EMBEDDING.parameters, {"auto_orient": not self.disable_preproc_auto_orient})


class Images(VectorRequest):
    """Pictures to embed."""

    image: Annotated[Picture | list[Picture], AtMost("max_batch")]


class Texts(VectorRequest):
    """Texts to embed."""

    text: Annotated[str | list[str], AtMost("max_texts")]


class Comparison(VectorRequest):
    """What to compare. The types of ``subject`` and ``prompt`` depend on other fields and are checked later."""

    subject: Any
    subject_type: str = "image"
    prompt: Any
    prompt_type: str = "text"


async def embed_images(request: Request, ask: Images) -> Response:
    """One vector a picture, of the length the network gives it."""
    images = ask.image if isinstance(ask.image, list) else [ask.image]
    if not images:
        raise InvalidPicture("There is no picture in the request.")
    return _answer(request, ask, embeddings=await _embed(request, ask, await _manifest(request, ask), images))


async def embed_texts(request: Request, ask: Texts) -> Response:
    """One vector a text. A text that is too long is refused."""
    texts = ask.text if isinstance(ask.text, list) else [ask.text]
    if ask.most_texts is not None and len(texts) > ask.most_texts:
        raise InvalidParameter(f"One request may hold 1 to {ask.most_texts} texts, not {len(texts)}.")
    return _answer(request, ask, embeddings=await _embed(request, ask, await _manifest(request, ask), texts))


async def compared(request: Request, ask: Comparison) -> Response:
    """The cosine between the subject and each prompt, -1 to 1, by name if the prompts have names."""
    prompts, names = _prompts(ask)
    subject = _typed(ask.subject, ask.subject_type, "subject")
    manifest = await _manifest(request, ask)
    if ask.subject_type == ask.prompt_type:
        vectors = await _embed(request, ask, manifest, [subject, *prompts], most=MOST + 1)
        one, others = vectors[0], vectors[1:]
    else:
        one = (await _embed(request, ask, manifest, [subject]))[0]
        others = await _embed(request, ask, manifest, prompts)
    values = cosines(one, others).tolist()
    return _answer(request, ask, similarity=values if names is None else dict(zip(names, values, strict=True)))


def _prompts(ask: Comparison) -> tuple[list[str | Picture], list[str] | None]:
    """The prompts, and their names when they came as an object. Raises InvalidParameter."""
    prompt, names = ask.prompt, None
    if isinstance(prompt, dict) and not (ask.prompt_type == "image" and {"type", "value"} <= prompt.keys()):
        names, prompt = list(prompt), list(prompt.values())
    elif not isinstance(prompt, list):
        prompt = [prompt]
    if not 1 <= len(prompt) <= MOST:
        raise InvalidParameter(f"A request compares with 1 to {MOST} prompts, not {len(prompt)}.")
    return [_typed(value, ask.prompt_type, "prompt") for value in prompt], names


def _typed(value: Any, kind: str, field: str) -> str | Picture:
    """A text or a picture reference, as ``kind`` says. Raises InvalidParameter."""
    if kind == "text" and isinstance(value, str):
        return value
    if kind == "image":
        try:
            return Picture.model_validate(value)
        except ValidationError:
            pass
    if kind not in ("text", "image"):
        raise InvalidParameter(f"'{field}_type' must be text or image.")
    raise InvalidParameter(f"'{field}' is no {kind}, which '{field}_type' says.")


async def _manifest(request: Request, ask: VectorRequest) -> Manifest:
    return await model_of(request, await named(request, ask, ask.core, ask.version), (tasks.EMBEDDING.name,))


async def _embed(
    request: Request, ask: VectorRequest, manifest: Manifest, things: Sequence[str | Picture], most: int = MOST
) -> np.ndarray:
    """float32 ``[n,D]`` of ``things``, which are all pictures or all texts. Raises InvalidParameter."""
    service = service_of(request)
    pictures = [thing for thing in things if isinstance(thing, Picture)]
    texts = [thing for thing in things if isinstance(thing, str)]
    if pictures:
        if len(pictures) > most:
            raise InvalidParameter(f"One request may hold {most} pictures, not {len(pictures)}.")
        reads = [partial(service.pictures.read, image.type, image.value) for image in pictures]
        answered = await service.ask(request, manifest, reads, ask.settings())
    else:
        if not 1 <= len(texts) <= service.settings.max_texts:
            raise InvalidParameter(f"One request may hold 1 to {service.settings.max_texts} texts, not {len(texts)}.")
        samples = [{"text": text.encode()} for text in texts]
        answered = await service.ask_samples(request, manifest, samples, ask.settings(), role="text")
    return np.concatenate(answered.results)


def _answer(request: Request, ask: VectorRequest, **found: Any) -> Response:
    seconds = time.perf_counter() - context_of(request).started
    return reply(found | {"time": seconds, "inference_id": ask.id} | _NULLS)
