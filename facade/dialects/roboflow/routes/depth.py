"""Roboflow's dialect: ``/infer/depth-estimation``, one picture a request."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import json_schema
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.schemas import ImageRequest, one_name
from tritonvision.facade.rendering import depth_maps
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.workers import in_thread
from tritonvision.publication import Manifest
from tritonvision.results import DepthMap

router = Routes(tags=["Roboflow"])

_DECIMALS = 5  # the map has 65536 levels


class DepthRequest(ImageRequest):
    """``/infer/depth-estimation``; without ``model_id`` the version names a size of Depth Anything V2."""

    model_id: str = ""
    depth_version_id: str = "small"
    depth_map_format: Literal["json", "png16", "png8"] = "json"

    def settings(self, manifest: Manifest) -> dict[str, Any]:
        """Every setting of the task."""
        return tasks.resolve(tasks.DEPTH_ESTIMATION.parameters, {"auto_orient": not self.disable_preproc_auto_orient})


@router.post("/infer/depth-estimation", openapi_extra=json_schema(DepthRequest))
@router.post("/infer/depth-estimation/{model_id:path}", openapi_extra=json_schema(DepthRequest))
async def depth_estimation(request: Request, model_id: str = "") -> Response:
    """How near each pixel is, in 0..1: 1 is the nearest of this picture, 0 the farthest."""
    ask = await read_body(request, DepthRequest)
    if ask.many:
        raise InvalidParameter("Depth is estimated for one picture a request, not for an array.")
    service = service_of(request)
    name = one_name(model_id, ask.model_id) or await named(request, ask, "depth-anything-v2", "depth_version_id")
    manifest = await model_of(request, name, (tasks.DEPTH_ESTIMATION.name,))
    read = partial(service.pictures.read, ask.image.type, ask.image.value)
    answered = await service.ask(request, manifest, [read], ask.settings(manifest))
    body = {
        "inference_id": ask.id or str(uuid.uuid4()), "frame_id": None, "time": answered.seconds, "resolved_model": None,
        **await in_thread(depth, answered.results[0], ask.depth_map_format),
    }  # fmt: skip
    return await in_thread(reply, body)


def depth(result: DepthMap, form: str) -> dict[str, Any]:
    """The map as ``form`` and in false colours; a picture that is equally far everywhere gives zeros."""
    nearness = result.nearness()
    if form == "json":
        normalized: Any = depth_maps.numbers(nearness, _DECIMALS)
    else:
        normalized = depth_maps.grey_png(nearness, int(form.removeprefix("png")))
    return {
        "normalized_depth": normalized, "depth_map_format": form, "image": depth_maps.false_colours(nearness),
    }  # fmt: skip
