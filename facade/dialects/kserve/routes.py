"""Routes of KServe's v2 protocol over the public models.

Asked with ``Accept: application/x-protobuf`` they take and give Triton's messages; that is how its gRPC comes in.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
from fastapi.exceptions import RequestValidationError
from google.protobuf.message import DecodeError, Message
from pydantic import ValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from tritonclient.grpc import service_pb2 as pb

import tritonvision
from tritonvision import catalog, tasks
from tritonvision.engine.forwarding import CONFIG, METADATA, STATISTICS
from tritonvision.errors import InvalidParameter, TritonVisionError, UnknownModel
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.kserve import message_json, tensors
from tritonvision.facade.dialects.kserve.schemas import InferRequest
from tritonvision.facade.inputs.json_body import parse_json
from tritonvision.facade.replies import reply, sentence
from tritonvision.facade.routing import Routes
from tritonvision.facade.workers import in_thread
from tritonvision.publication import Manifest

PROTOBUF, PROTOBUF_STREAM = "application/x-protobuf", "application/x-protobuf-stream"
JSON_LENGTH = "inference-header-content-length"  # of the JSON before binary data
_OCTETS = "application/octet-stream"
_EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics", "model_repository"]


class _Versioned(Convertor[str]):
    """A model's name, with or without ``/versions/1`` behind it."""

    regex = "[^/]+(?:/versions/[^/]+)?"

    def convert(self, value: str) -> str:
        """The name as it stands in the path."""
        return value

    def to_string(self, value: str) -> str:
        """The part of the path that stands for it."""
        return value


register_url_convertor("versioned", _Versioned())
router = Routes(tags=["KServe"])


@router.get("/v2")
async def server(request: Request) -> Response:
    """Name, version and extensions of the server."""
    told = {"name": "tritonvision", "version": tritonvision.__version__, "extensions": _EXTENSIONS}
    return _answer(request, pb.ServerMetadataResponse(**told), told)


@router.get("/v2/health/live")
async def live(request: Request) -> Response:
    """503 when this process should be replaced."""
    alive = service_of(request).engine.live()
    return _answer(request, pb.ServerLiveResponse(live=alive), {"live": alive}, 200 if alive else 503)


@router.get("/v2/health/ready")
async def ready(request: Request) -> Response:
    """503 while requests would not be answered."""
    well = not await service_of(request).why_not_ready()
    return _answer(request, pb.ServerReadyResponse(ready=well), {"ready": well}, 200 if well else 503)


@router.post("/v2/repository/index")
async def index(request: Request) -> Response:
    """Every published model, ready where it is loaded; the others load when they are asked."""
    service = service_of(request)
    loaded = {manifest.id for manifest in service.engine.loaded()}
    published = await service.published(request)
    rows = [
        {"name": name, "version": "1", "state": "READY" if manifest.id in loaded else "UNAVAILABLE", "reason": ""}
        for manifest in published for name in manifest.triton_names
    ]  # fmt: skip
    return _answer(request, pb.RepositoryIndexResponse(models=rows), rows)


@router.get("/v2/models/{model:versioned}/ready")
async def model_ready(request: Request, model: str) -> Response:
    """Whether the model is answered for; one that is not loaded yet will load when it is asked."""
    manifest, role = _entry_point(request, model)
    well = not await service_of(request).why_not_ready(manifest)
    told = {"name": manifest.entry_point(role), "ready": well}
    return _answer(request, pb.ModelReadyResponse(ready=well), told, 200 if well else 400)


@router.get("/v2/models/{model:versioned}/config")
async def config(request: Request, model: str) -> Response:
    """The model's ``config.pbtxt`` as Triton runs it, without the steps of an ensemble."""
    found = await _described(request, model, CONFIG)
    return _answer(request, found, message_json.told(found.config))


@router.get("/v2/models/{model:versioned}/stats")
async def statistics(request: Request, model: str) -> Response:
    """How often, and for how long, the model ran."""
    found = await _described(request, model, STATISTICS)
    return _answer(request, found, message_json.told(found))


@router.get("/v2/models/{model:versioned}")
async def metadata(request: Request, model: str) -> Response:
    """Names, types and shapes of the model's inputs and outputs."""
    found = await _described(request, model, METADATA)
    told = {
        "name": found.name, "versions": list(found.versions), "platform": found.platform,
        "inputs": [_tensor(tensor) for tensor in found.inputs],
        "outputs": [_tensor(tensor) for tensor in found.outputs],
    }  # fmt: skip
    return _answer(request, found, told)


@router.post("/v2/models/{model:versioned}/infer", openapi_extra=json_schema(InferRequest))
async def infer(request: Request, model: str) -> Response:
    """The model's outputs. Encoded pictures are BYTES in ``image``, settings a JSON object as BYTES in ``parameters``.

    In JSON the strings of BYTES are UTF-8, or base64 with the parameter ``"content_type": "base64"``. Binary data
    follow the JSON by the extension of Triton: the header ``Inference-Header-Content-Length`` is the JSON's length.
    """
    service, (manifest, role) = service_of(request), _entry_point(request, model)
    ask, message = await _read(request)
    pictures = await in_thread(tensors.checked, message)
    service.admit(request, manifest, max(len(pictures), 1), role)
    for number, picture in enumerate(pictures):
        if picture or not number:  # an empty one repeats the picture before it
            await service.pictures.encoded(picture)
    if PROTOBUF_STREAM in request.headers.get("accept", ""):
        return StreamingResponse(_pieces(request, manifest, role, message), media_type=PROTOBUF_STREAM)
    answer = await service.forward(manifest, role, message, pictures[0] if pictures else b"")
    if ask is None:
        return Response(answer.SerializeToString(), media_type=PROTOBUF)
    told, behind = await in_thread(tensors.to_json, answer, ask)
    if behind:
        return Response(told + behind, headers={JSON_LENGTH: str(len(told))}, media_type=_OCTETS)
    return Response(told, media_type="application/json")


async def _pieces(request: Request, manifest: Manifest, role: str, message: Any) -> AsyncGenerator[bytes, None]:
    """Each response of a model that answers in pieces, or the error that ends them: its length in 4 bytes, then it."""
    try:
        async with aclosing(service_of(request).forward_pieces(manifest, role, message)) as pieces:
            async for piece in pieces:
                yield _framed(pb.ModelStreamInferResponse(infer_response=piece))
    except TritonVisionError as error:
        yield _framed(pb.ModelStreamInferResponse(error_message=sentence(error)))


def _framed(message: Message) -> bytes:
    data = message.SerializeToString()
    return struct.pack(">I", len(data)) + data


async def _read(request: Request) -> tuple[InferRequest | None, Any]:
    """The request in JSON, None of one in protobuf, and Triton's message of it. Raises InvalidParameter, ..."""
    body = await request.body()
    if request.headers.get("content-type") == PROTOBUF:
        try:
            return None, pb.ModelInferRequest.FromString(body)
        except DecodeError as error:
            raise InvalidParameter("The body is no ModelInferRequest.") from error
    told = request.headers.get(JSON_LENGTH, str(len(body)))
    length = int(told) if told.isascii() and told.isdigit() and len(told) < 19 else len(body) + 1
    if length > len(body):
        raise InvalidParameter(f"The header {JSON_LENGTH} is the length of the JSON, which is a part of the body.")
    try:
        ask = InferRequest.model_validate(await parse_json(body[:length]))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([p | {"loc": ("body", *p["loc"])} for p in problems]) from None
    except orjson.JSONDecodeError as error:
        raise InvalidParameter("The body is not valid JSON.") from error
    return ask, await in_thread(tensors.to_message, ask, body[length:])


def _entry_point(request: Request, name: str) -> tuple[Manifest, str]:
    """The published model and the entry point that a name in the path means, both as in Triton.

    Raises:
        UnknownModel: there is none, or the path asks for another version than the one that is published.
        Unauthorized, Forbidden: the caller may not ask it.
    """
    name, _, version = name.partition("/versions/")
    whole, _, role = name.partition("--")
    manifest = service_of(request).find(request, catalog.from_triton_name(whole))
    if version not in ("", "1"):
        raise UnknownModel(f"'{manifest.id}' has the version 1 alone.")
    if role not in manifest.roles:
        raise UnknownModel(f"'{manifest.id}' has no entry point of that name.")
    context_of(request).model = manifest.id
    if manifest.task not in tasks.TASKS:
        raise InvalidParameter(f"'{manifest.id}' does {manifest.task}, which this server does not answer.")
    return manifest, role


async def _described(request: Request, model: str, call: str) -> Any:
    return await service_of(request).engine.forwarding.describe(call, *_entry_point(request, model))


def _tensor(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _answer(request: Request, message: Message, told: Any, status: int = 200) -> Response:
    """``message`` where protobuf is asked for, else ``told``; as protobuf it says itself whether something is well."""
    if request.headers.get("accept") == PROTOBUF:
        return Response(message.SerializeToString(), media_type=PROTOBUF)
    return reply(told, status)
