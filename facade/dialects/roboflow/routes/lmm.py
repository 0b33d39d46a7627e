"""Roboflow's dialect: ``/infer/lmm``, a prompt with one picture, and the generated text, or what a task made of it."""

from __future__ import annotations

import time
import uuid
from typing import Any

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
from tritonvision.facade.routing import Routes
from tritonvision.facade.workers import in_thread
from tritonvision.grounding import florence, moondream
from tritonvision.grounding.reply_stream import answered
from tritonvision.pictures import shown_size
from tritonvision.publication import Manifest

router = Routes(tags=["Roboflow"])


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
    """The text generated for the picture; of a task of Florence-2 ``{"<TASK>": what the task answers}``. Moondream2
    takes the prompt as the name of an object, and answers its boxes.
    """
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
    task = florence.asked(ask.prompt).task if manifest.grounding == florence.NAME else None
    orient, size = not ask.disable_preproc_auto_orient, {}

    async def read(reservation: ByteReservation) -> bytes:
        picture = await service.pictures.read(ask.image.type, ask.image.value, reservation)
        size["width"], size["height"] = await in_thread(shown_size, picture, orient)
        return picture

    finds = manifest.grounding == moondream.NAME
    messages = tasks.about_picture(f"detect: {ask.prompt}" if finds else ask.prompt)
    answer = service.chat(request, manifest, messages, [read], ask.settings(manifest))
    said = answered("".join([piece.text async for piece in answer]))
    response = {task.token: florence.answer(task, said, **size)} if task else said
    seconds = time.perf_counter() - context_of(request).started
    found = {"predictions": _predictions(said, ask.prompt, **size)} if finds else {"response": response}
    return reply({"inference_id": ask.id or str(uuid.uuid4()), "time": seconds, "image": size, **found})


def _predictions(said: str, name: str, width: int, height: int) -> list[dict[str, Any]]:
    """The boxes that Moondream2 writes, as this route answers them: they are written, not scored, and of one class."""
    corners = [box for place in moondream.read(said, width, height) for box in place.boxes]
    return [
        {
            "x": (left + right) / 2 * width, "y": (top + bottom) / 2 * height, "width": (right - left) * width,
            "height": (bottom - top) * height, "confidence": 1.0, "class": name, "class_id": 0,
            "detection_id": str(uuid.uuid4()),
        }
        for left, top, right, bottom in corners
    ]  # fmt: skip
