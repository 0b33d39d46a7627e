"""``GET /model/facts/{model}``: the facts of a published model, for clients that return its results in Python."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision.engine.facts import Facts
from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.dialects.operations import MODELS
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes

router = Routes(tags=[MODELS])

_EXAMPLE: dict[str, Any] = {
    "id": "yolov8n-640", "task": "object-detection", "family": "YOLOv8", "license": "AGPL-3.0", "weights": "official",
    "backend": "onnx", "labels": ["person", "bicycle"], "keypoint_labels": [], "multi_label": False, "map_meaning": "",
    "precision": "fp32", "precisions": ["fp32"], "grounding": "", "grounding_pixels": None, "asked_as": "",
}  # fmt: skip


@router.get(
    "/model/facts/{model_id:path}", summary="What one published model is",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}, "example": _EXAMPLE}}}},
)
async def facts(request: Request, model_id: str) -> Response:
    """The facts of a published model, with the names of all classes; loaded or not."""
    manifest = service_of(request).find(request, possible(model_id))
    context_of(request).model = manifest.id
    return reply(Facts.of(manifest))
