"""Roboflow's route of instance segmentation, under both of its names."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.mask_fields import MaskFields, instances
from tritonvision.facade.dialects.roboflow.routes import tasks
from tritonvision.facade.dialects.roboflow.schemas import DetectionRequest
from tritonvision.facade.routing import Routes
from tritonvision.publication import Manifest
from tritonvision.tasks import INSTANCE_SEGMENTATION

router = Routes(tags=["Roboflow"])


class InstanceRequest(MaskFields, DetectionRequest):
    """``/infer/instance_segmentation``."""

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the model's task. Raises InvalidParameter."""
        return super().settings(manifest) | {"mask_format": self.mask_format()}


@router.post("/infer/segmentation", openapi_extra=json_schema(InstanceRequest))
@router.post("/infer/instance_segmentation", openapi_extra=json_schema(InstanceRequest))
async def instance_segmentation(request: Request) -> Response:
    """Boxes with names and masks, as outlines or run lengths."""
    ask = await tasks.read_body(request, InstanceRequest)
    return await tasks.infer(request, ask, (INSTANCE_SEGMENTATION.name,), instances)
