"""OpenAI's dialect: chat completions of vision-language models, whole or streamed."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import TritonVisionError, UnknownModel
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.common.waiting import wait_of
from tritonvision.facade.dialects.openai.errors import error_body
from tritonvision.facade.dialects.openai.schemas import ChatRequest
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Read
from tritonvision.facade.streaming.sse import EventStream, event
from tritonvision.facade.workers import in_thread
from tritonvision.grounding.located import Convention, with_places
from tritonvision.grounding.reply_stream import ReplyStream
from tritonvision.pictures import shown_size
from tritonvision.results import Delta

NAME = "openai"
_OWNER = "tritonvision"
# ``created`` is unknown; clients sort by it, so it is when this server started.
_CREATED = int(time.time())
_NO_NAMES = ("dummy", "tgi")  # the model that Hugging Face's clients send when the URL selects it
_DONE = b"data: [DONE]\n\n"

router = Routes(tags=["OpenAI"])


# ---- the server and its models ---------------------------------------------------------------------------------------


@router.get("/v1/health/live")
async def live(request: Request) -> Response:
    """Liveness: 503 when this process should be replaced."""
    return _health(service_of(request).engine.live(), "live")


@router.get("/v1/health/ready")
async def ready(request: Request) -> Response:
    """Readiness: 503 while requests would not be answered."""
    return _health(not await service_of(request).why_not_ready(), "ready")


def _health(well: bool, word: str) -> Response:
    told = f"Service is {word}." if well else f"Service is not {word}."
    return reply({"object": "health.response", "message": told}, 200 if well else 503)


@router.get("/v1/models")
async def list_models(request: Request) -> Response:
    """The published models that chat."""
    published = await service_of(request).published(request)
    return reply({"object": "list", "data": [_model(m.id) for m in published if m.task == tasks.VLM.name]})


@router.get("/v1/models/{model:path}")
async def retrieve_model(request: Request, model: str) -> Response:
    """One of them, under any of its names."""
    manifest = service_of(request).find(request, model)
    if manifest.task != tasks.VLM.name:
        raise UnknownModel(f"'{model}' does {manifest.task}; it does not chat.")
    return reply(_model(model))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": _CREATED, "owned_by": _OWNER}


# ---- chat ------------------------------------------------------------------------------------------------------------


@router.post("/v1/chat/completions", openapi_extra=json_schema(ChatRequest))
async def chat_completions(request: Request) -> Response:
    """The next message of the assistant: whole, or in pieces as it is generated (``stream``).

    Hugging Face's client, given a URL and no model, sends the model ``dummy``: then the only published one is used.
    """
    ask = await read_body(request, ChatRequest)
    name = await _only_one(request) if ask.model in _NO_NAMES else ask.model
    _, wait_timeout = wait_of(request)
    return await complete(request, ask, name, wait_timeout=wait_timeout)


async def complete(
    request: Request, ask: ChatRequest, name: str, *, wait: bool = True, wait_timeout: float = 0.0,
    failed: Callable[[TritonVisionError], bytes] | None = None,
) -> Response:  # fmt: skip
    """The answer of the model called ``name``.

    Args:
        wait, wait_timeout: for a model that is not loaded, as :meth:`Service.ask` has them.
        failed: makes the event of an error during a stream; by default in OpenAI's form.

    Raises:
        InvalidPicture, InvalidParameter, ModelLoading, Overloaded, ClientDisconnect, and what the engine raises.
    """
    service = service_of(request)
    settings = ask.settings(service.settings.max_texts)
    messages, references = ask.conversation()
    manifest = await service.manifest(request, name, (tasks.VLM.name,), wait=wait, wait_timeout=wait_timeout)
    reads: list[Read] = [partial(service.pictures.read, kind, value) for kind, value in references]
    if wait_timeout or not wait:
        await service.loaded(request, manifest, wait=wait, wait_timeout=wait_timeout)
    if ask.places:
        sized = _Sized(reads[0])
        convention = Convention(manifest.grounding, manifest.grounding_pixels)
        pieces = service.chat(request, manifest, messages, [sized.read], settings)
        pieces = with_places(pieces, convention, messages, lambda: sized.size)
    else:
        pieces = service.chat(request, manifest, messages, reads, settings)
    first = await anext(pieces)  # an error before the first piece still has its own status
    answer = Completion(name, ask.separate_reasoning)
    if ask.stream:
        return EventStream(_events(answer, first, pieces, bool(ask.stream_options.include_usage)), failed or _failed)
    said = [first, *[piece async for piece in pieces]]
    return reply(answer.whole(said))


class _Sized:
    """Reads a picture, and then knows its ``size``: (width, height) as it is shown, pixels."""

    def __init__(self, read: Read):
        self._read = read
        self.size = 1, 1

    async def read(self, reservation: ByteReservation) -> bytes:
        """The encoded picture. Raises InvalidPicture."""
        picture = await self._read(reservation)
        self.size = await in_thread(shown_size, picture)
        return picture


async def _only_one(request: Request) -> str:
    """The published model that chats. Raises UnknownModel where there is none, or more than one."""
    published = await service_of(request).published(request)
    names = [manifest.id for manifest in published if manifest.task == tasks.VLM.name]
    if len(names) != 1:
        raise UnknownModel(
            f"The request names no model, and {len(names)} of those that are published here chat.",
            hint="Name one as 'model', or ask /models/MODEL_ID/v1/chat/completions.",
        )
    return names[0]


async def _events(
    answer: Completion, first: Delta, pieces: AsyncGenerator[Delta, None], include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The chunks of one answer, and ``[DONE]``."""
    extra = {"usage": None} if include_usage else {}
    last = first
    async with aclosing(pieces):
        yield event(answer.chunk({"role": "assistant", "content": ""}) | extra)
        if (told := answer.fields(first.text)) or first.logprobs:
            yield event(answer.chunk(told or {"content": ""}, logprobs=first.logprobs) | extra)
        async for last in pieces:
            if (told := answer.fields(last.text)) or last.logprobs:
                yield event(answer.chunk(told or {"content": ""}, logprobs=last.logprobs) | extra)
        if told := answer.fields("", last=True) | places_of(last):
            yield event(answer.chunk(told) | extra)
    yield event(answer.chunk({}, last.finish_reason) | extra)
    if include_usage:
        yield event(answer.head("chat.completion.chunk") | {"choices": [], "usage": usage(last)})
    yield _DONE


def _failed(error: TritonVisionError) -> bytes:
    return event(error_body(error))


@dataclass(frozen=True)
class Completion:
    """The fields that all pieces of one answer share.

    Attributes:
        model: as the caller wrote it.
        apart: whether what the model thinks has a field of its own.
    """

    model: str
    apart: bool = True
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    _reply: ReplyStream = field(default_factory=ReplyStream, init=False, repr=False)

    def fields(self, text: str, last: bool = False) -> dict[str, str]:
        """The fields of a message that the next piece of text adds to, each with what it adds.

        Args:
            last: whether the answer has ended, and what was held back follows ``text``.
        """
        if not self.apart:
            return {"content": text} if text else {}
        parts = [self._reply.push(text), *([self._reply.end()] if last else [])]
        thinking, answer = ("".join(each) for each in zip(*parts, strict=True))
        told = {"reasoning_content": thinking, "content": answer}
        return {name: value for name, value in told.items() if value}

    def head(self, kind: str) -> dict[str, Any]:
        """The first fields of every object."""
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}

    def whole(self, pieces: Sequence[Delta]) -> dict[str, Any]:
        """The answer in one piece."""
        said = self.fields("".join(piece.text for piece in pieces), last=True)
        message = {"role": "assistant", "content": "", **said, **places_of(pieces[-1])}
        told = _logprobs([one for piece in pieces for one in piece.logprobs])
        choice = {"index": 0, "message": message, "logprobs": told, "finish_reason": pieces[-1].finish_reason}
        return self.head("chat.completion") | {"choices": [choice], "usage": usage(pieces[-1])}

    def chunk(
        self, delta: Mapping[str, Any], finish_reason: str = "", logprobs: Sequence[Mapping[str, Any]] = ()
    ) -> dict[str, Any]:
        """One piece of it."""
        choice = {"index": 0, "delta": delta, "logprobs": _logprobs(logprobs), "finish_reason": finish_reason or None}
        return self.head("chat.completion.chunk") | {"choices": [choice]}


def _logprobs(told: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    return {"content": list(told), "refusal": None} if told else None


def places_of(last: Delta) -> dict[str, Any]:
    """The field of a message with the places that the answer names; none where they were not asked for."""
    return {} if last.places is None else {"places": [place.to_dict() for place in last.places]}


def usage(last: Delta) -> dict[str, Any]:
    """Tokens of the prompt, pictures included, how many of them were not read again, and tokens of the answer."""
    prompt, answer = last.usage
    return {
        "prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer,
        "prompt_tokens_details": {"cached_tokens": last.cached_tokens},
    }  # fmt: skip
