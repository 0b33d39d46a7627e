"""Roboflow's dialect: ``/infer/lmm``, a prompt with one picture, and the generated text."""

from __future__ import annotations

import time
import uuid
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.model_choice import model_of
from tritonvision.facade.dialects.roboflow.schemas import ImageRequest, one_name
from tritonvision.facade.replies import reply
from tritonvision.facade.workers import in_thread
from tritonvision.pictures import shown_size
from tritonvision.publication import Manifest

router = APIRouter(tags=["Roboflow"])


class LmmRequest(ImageRequest):
    """``/infer/lmm``. Decoding is greedy: the contract has no field for sampling."""

    model_id: str = ""
    prompt: str | None = None
    max_new_tokens: int | None = None

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        given = {"auto_orient": not self.disable_preproc_auto_orient, "max_new_tokens": self.max_new_tokens}
        return tasks.resolve(tasks.VLM.parameters, given)


@router.post("/infer/lmm", openapi_extra=json_schema(LmmRequest))
@router.post("/infer/lmm/{model_id:path}", openapi_extra=json_schema(LmmRequest))
async def lmm(request: Request, model_id: str = "") -> Response:
    """The text generated for the picture."""
    ask = await read_body(request, LmmRequest)
    if ask.many:
        raise InvalidParameter("A prompt is about one picture a request, not about an array.")
    name = one_name(model_id, ask.model_id)
    if not name:
        raise InvalidParameter("The request names no model.", hint="Send 'model_id'.")
    service = service_of(request)
    manifest = await model_of(request, name, (tasks.VLM.name,))
    if not ask.prompt:
        raise InvalidParameter(f"'{name}' needs a 'prompt'.")
    orient, size = not ask.disable_preproc_auto_orient, {}

    async def read(reservation: ByteReservation) -> bytes:
        picture = await service.pictures.read(ask.image.type, ask.image.value, reservation)
        size["width"], size["height"] = await in_thread(shown_size, picture, orient)
        return picture

    messages = tasks.about_picture(ask.prompt)
    answer = service.chat(request, manifest, messages, [read], ask.settings(manifest))
    said = "".join([piece.text async for piece in answer])
    seconds = time.perf_counter() - context_of(request).started
    return reply({"inference_id": ask.id or str(uuid.uuid4()), "time": seconds, "image": size, "response": said})
