"""Vi's routes: questions about pictures, and the models that answer them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
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
from tritonvision.facade.dialects.vi.errors import error_body
from tritonvision.facade.dialects.vi.schemas import PredictRequest, Source
from tritonvision.facade.replies import cut, reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Service
from tritonvision.facade.streaming.sse import EventStream, event
from tritonvision.pictures import shown_size
from tritonvision.publication import Manifest
from tritonvision.results import Delta
from tritonvision.vi import answers, errors
from tritonvision.vi.models import ModelInfo
from tritonvision.vi.questions import Question

_AT_ONCE = 8  # pictures of one request that are written about together
_DONE = b"data: [DONE]\n\n"

router = Routes(tags=["Vi"])


@router.get("/vi/v1/models")
async def list_models(request: Request) -> Response:
    """The published models that read pictures and write."""
    service = service_of(request)
    writing = [manifest for manifest in await service.published(request) if manifest.task == tasks.VLM.name]
    return reply({"models": [_described(service, manifest) for manifest in writing]})


@router.get("/vi/v1/models/{run_id:path}")
async def retrieve_model(request: Request, run_id: str) -> Response:
    """One of them: what its run was trained for, and whether it is loaded."""
    service = service_of(request)
    manifest = service.find(request, run_id)
    if manifest.task != tasks.VLM.name:
        raise UnknownModel(f"'{run_id}' does {manifest.task}; it does not write.")
    return reply(_described(service, manifest))


@router.post("/vi/v1/predict", openapi_extra=json_schema(PredictRequest))
async def predict(request: Request) -> Response:
    """Ask about one picture or several; each has its own result or its own error.

    With ``stream`` and one picture the text comes as it is written, and the result at the end.
    """
    ask = await read_body(request, PredictRequest)
    _, wait_timeout = wait_of(request)
    service = service_of(request)
    manifest = await service.manifest(request, ask.run_id, (tasks.VLM.name,), wait_timeout=wait_timeout)
    questions = ask.questions(manifest)
    if wait_timeout:
        await service.loaded(request, manifest, wait_timeout=wait_timeout)
    service.admit(request, manifest, len(questions))
    asked = [
        _Asked(request, service, manifest, *pair) for pair in zip(ask.sources, questions, strict=True)
    ]  # fmt: skip
    if ask.stream:
        pieces = asked[0].pieces()
        first = await anext(pieces)  # an error before the first piece still has its own status
        return EventStream(_events(asked[0], first, pieces), lambda error: event(error_body(error)))
    return reply({"results": await _results(asked)})


def _described(service: Service, manifest: Manifest) -> dict[str, Any]:
    ready = any(loaded.id == manifest.id for loaded in service.engine.loaded())
    return asdict(ModelInfo.of(manifest)) | {"ready": ready}


@dataclass
class _Asked:
    """One picture of a request and the question about it."""

    request: Request
    service: Service
    manifest: Manifest
    source: Source
    question: Question
    said: list[Delta] = field(default_factory=list)
    size: tuple[int, int] = (1, 1)

    async def pieces(self) -> AsyncGenerator[Delta, None]:
        """The pieces of the answer, which are kept. Raises as :meth:`Service.chat`."""
        messages, settings = self.question.messages, self.question.settings
        written = self.service.chat(self.request, self.manifest, messages, [self._read], settings)
        async with aclosing(written):
            async for piece in written:
                self.said.append(piece)
                yield piece

    def answered(self) -> dict[str, Any]:
        """The element of the answer, once all of it is written."""
        last, text = self.said[-1], "".join(piece.text for piece in self.said)
        convention, pixels = self.manifest.grounding, self.manifest.grounding_pixels
        found = answers.answer(
            self.question, text, self.size, convention, pixels, last.usage, last.finish_reason
        )  # fmt: skip
        return {"result": found.to_dict(), "error": None}

    async def _read(self, reservation: ByteReservation) -> bytes:
        data = await self.service.pictures.read(self.source.type, self.source.value, reservation)
        self.size = shown_size(data)[::-1]
        return data


async def _results(asked: list[_Asked]) -> list[dict[str, Any]]:
    """The element of each picture.

    Raises:
        TritonVisionError: of the first, where every picture met an error that is not its own.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(each: _Asked) -> dict[str, Any] | TritonVisionError:
        async with gate:
            try:
                async with aclosing(each.pieces()) as pieces:
                    async for _ in pieces:
                        pass
            except TritonVisionError as error:
                return error
            return each.answered()

    running = [asyncio.ensure_future(one(each)) for each in asked]
    try:
        outcomes = await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
    failures = [outcome for outcome in outcomes if isinstance(outcome, TritonVisionError) and outcome.status >= 500]
    if len(failures) == len(outcomes):
        raise failures[0]
    return [_failed(outcome) if isinstance(outcome, TritonVisionError) else outcome for outcome in outcomes]


def _failed(error: TritonVisionError) -> dict[str, Any]:
    told = errors.of(error)
    return {"result": None, "error": {"type": errors.builtin_name(told), "message": cut(str(told))}}


async def _events(asked: _Asked, first: Delta, pieces: AsyncGenerator[Delta, None]) -> AsyncGenerator[bytes, None]:
    """The text, piece by piece, and the whole answer."""
    async with aclosing(pieces):
        if first.text:
            yield event({"text": first.text})
        async for piece in pieces:
            if piece.text:
                yield event({"text": piece.text})
    yield event({"results": [asked.answered()]})
    yield _DONE
