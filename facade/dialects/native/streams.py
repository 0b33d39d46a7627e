"""Our own route for streams: a WebSocket on which objects are prompted and followed, frame by frame.

A binary message is the next frame, an encoded picture. A text message is a JSON object of settings of the task, with
the next frame as base64 in ``image``, or without one about a frame before. Each message has one answer, in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, TritonVisionError
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.inputs.json_body import parse_json
from tritonvision.facade.inputs.pictures import decoded
from tritonvision.facade.replies import cut
from tritonvision.facade.routing import Routes
from tritonvision.facade.security.access import caller_of
from tritonvision.facade.security.keys import authorize
from tritonvision.facade.service import Service
from tritonvision.results import TrackedMasks
from tritonvision.stages import Timeline, measured
from tritonvision.streams import IDLE_SECONDS

router = Routes()

_DONE, _TOO_SLOW = 1000, 1008  # codes of a close
_NAME = "native"  # of the dialect, in metrics


class _Asked(NamedTuple):
    """One message: the next frame, or None, and settings."""

    frame: bytes | None
    settings: dict[str, Any]


@router.websocket("/streams/{model:path}")
async def follow(socket: WebSocket, model: str) -> None:
    """One stream, which ends with the connection, or after a minute without a message."""
    service: Service = socket.app.state.service
    name = possible(model)
    await socket.accept()
    stream: int | None = None
    try:
        while True:
            message = await asyncio.wait_for(socket.receive(), IDLE_SECONDS)
            if message["type"] == "websocket.disconnect":
                return
            started = time.perf_counter()
            try:
                await authorize(socket)  # each message as a request: its key may be revoked meanwhile
                stream, found, form = await _counted(socket, name, message, stream)
                answer = _answer(found, form) | {"time": time.perf_counter() - started}
            except TritonVisionError as error:
                answer = {"error": cut(error.message), "hint": cut(_hint(error)), "code": error.code}
                if stream is not None and not service.engine.streams.knows(stream):
                    stream = None  # the next prompt begins another one
            await socket.send_text(orjson.dumps(answer).decode())  # a client that reads nothing is disconnected
    except TimeoutError:
        with suppress(WebSocketDisconnect, RuntimeError):  # it has left meanwhile
            await socket.close(_TOO_SLOW, f"Nothing was sent for {IDLE_SECONDS} seconds.")
    except WebSocketDisconnect:
        pass
    finally:
        if stream is not None:
            await service.engine.streams.end(name, stream)


async def _counted(
    socket: WebSocket, model: str, message: Mapping[str, Any], stream: int | None
) -> tuple[int, TrackedMasks, str]:
    """:func:`_step`, in the metrics as a request."""
    service: Service = socket.app.state.service
    began, timeline, status = time.perf_counter(), Timeline(), 200
    try:
        with measured(timeline):
            return await _step(socket, model, message, stream)
    except TritonVisionError as error:
        status = error.status
        raise
    finally:
        known = service.engine.repository.find(model)
        model_id = known.id if known else ""
        service.metrics.request(_NAME, model_id, status, time.perf_counter() - began)
        service.metrics.stages(model_id, timeline)


async def _step(
    socket: WebSocket, model: str, message: Mapping[str, Any], stream: int | None
) -> tuple[int, TrackedMasks, str]:
    """The number of the stream, the objects on the frame, and the form of their masks."""
    service: Service = socket.app.state.service
    manifest = service.find_unless_exported(socket, model)
    size, caller = len(message.get("bytes") or message.get("text") or b""), caller_of(socket)
    caller.count_pictures(1, service.admission.pictures_of(caller.holder), 0)
    model_id = manifest.id if manifest else model
    with service.admission.admit(1, caller.holder, model_id), ByteReservation(service.admission) as held:
        held.belongs_to(caller.holder)
        held.take(size)
        asked = await _read(message)
        if asked.frame is not None:
            await service.pictures.encoded(asked.frame)
        settings = tasks.resolve(tasks.TRACKING.parameters, asked.settings)
        number, found = await service.engine.streams.step(model, asked.frame, settings, stream)
    return number, found, settings["mask_format"]


async def _read(message: Mapping[str, Any]) -> _Asked:
    """Raises InvalidParameter, InvalidPicture, PictureTooLarge."""
    frame = message.get("bytes")
    if frame is not None:
        return _Asked(frame, {})
    try:
        given = await parse_json(message["text"].encode())
    except ValueError as error:
        raise InvalidParameter("The message is not valid JSON.", hint="Frames go as binary messages.") from error
    if not isinstance(given, dict):
        raise InvalidParameter("The message must be a JSON object of settings.")
    picture = given.pop("image", None)
    if picture is not None and not isinstance(picture, str):
        raise InvalidParameter("'image' must be the base64 of a picture.")
    return _Asked(None if picture is None else await decoded(picture), given)


def _hint(error: TritonVisionError) -> str:
    """What to do; of a refusal that passes, when to ask again, which other routes say in a header."""
    if error.hint or error.retry_after is None:
        return error.hint
    return f"Ask again in {error.retry_after:.0f} s."


def _answer(found: TrackedMasks, form: str) -> dict[str, Any]:
    """The frame's number, and of each object its id, how surely it is seen, and its mask as it was asked for."""
    size = [found.image_metadata[side] for side in ("height", "width")] if found.image_metadata else []
    objects: list[dict[str, Any]] = []
    for i, (number, score) in enumerate(zip(found.object_ids.tolist(), found.scores.tolist(), strict=True)):
        one: dict[str, Any] = {"object_id": number, "confidence": score}
        if form == "rle" and found.masks is not None:
            one["mask"] = {"size": size, "counts": found.masks.masks[i].decode()}
        elif form == "polygon" and found.polygons is not None:
            one["outline"] = found.polygons[i].tolist()
        objects.append(one)
    return {"frame": found.frame, "objects": objects, "state_bytes": found.state_bytes}
