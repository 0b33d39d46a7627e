"""Roboflow's dialect: ``/sam/embed_image`` and ``/sam/segment_image``.

A picture sent with an ``image_id`` is kept under it, so that later requests need not send it again. Its encoding is
cached in the inference server, by the picture's content.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields, json_schema
from tritonvision.facade.dialects.roboflow import kept_pictures
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.schemas import Picture
from tritonvision.facade.inputs.pictures import from_base64
from tritonvision.facade.rendering.opencv import outlines
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.service import Read
from tritonvision.facade.workers import in_thread
from tritonvision.pictures import FLOATS, read_npy
from tritonvision.publication import Manifest
from tritonvision.results import SAMPrediction

router = Routes(tags=["Roboflow"])

_EMBEDDINGS, _LOGITS = (256, 64, 64), (256, 256)
_BINARY = "application/octet-stream"
_ANSWERS = ("masks", "scores", "low_res_masks", "image_size")
_FEW = AtMost(16)  # a bound on coordinates and sizes
Form = Literal["json", "binary"]


class SamRequest(RequestFields):
    """Fields of both routes. The version names the model: ``vit_h``, ``vit_l`` or ``vit_b``; or ``model_id``
    does.
    """

    api_key: Any = None
    model_id: str = ""
    image: Picture | None = None
    image_id: Annotated[str, Field(max_length=200)] | None = None
    sam_version_id: str = "vit_h"
    format: Form = "json"


class SegmentRequest(SamRequest):
    """``/sam/segment_image``: a picture, the id of one, or its embeddings, and a prompt.

    Points without labels are on the object. ``binary`` of arrays that come in is base64 of a ``.npy`` file. ``box``
    (left, top, right, bottom, pixels) and ``multimask_output`` (three proposals) are fields of our own.
    """

    embeddings: Any = None
    embeddings_format: Form = "json"
    orig_im_size: Annotated[list[int], _FEW] | None = None
    point_coords: Annotated[list[Annotated[list[float], _FEW]], AtMost("max_regions")] | None = None
    point_labels: Annotated[list[float], AtMost("max_regions")] | None = None
    box: Annotated[list[float], _FEW] | None = None
    multimask_output: bool = False
    has_mask_input: bool = False
    mask_input: Any = None
    mask_input_format: Form = "json"
    use_mask_input_cache: bool = True

    def settings(self) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        return tasks.resolve(tasks.PROMPTABLE.parameters, {
            "points": self.point_coords, "point_labels": self.point_labels, "box": self.box,
            "multimask": self.multimask_output, "mask_format": "polygon" if self.format == "json" else "rle",
            "image_size": self.orig_im_size,
        })  # fmt: skip


# ---- the routes ------------------------------------------------------------------------------------------------------


@router.post("/sam/embed_image", openapi_extra=json_schema(SamRequest))
async def embed_image(request: Request) -> Response:
    """The encoding of a picture, ``[1,256,64,64]``: as JSON numbers, or as a ``.npy`` file (``format: binary``)."""
    ask = await read_body(request, SamRequest)
    service = service_of(request)
    manifest = await _manifest(request, ask)
    read = kept_pictures.reading(request, ask)
    settings = tasks.resolve(tasks.PROMPTABLE.parameters, {})
    wanted = ("embeddings", "image_size")
    answered = await service.ask_samples(request, manifest, [{}], settings, pictures=[read], outputs=wanted)
    if ask.image_id:
        key = kept_pictures.caller(request, ask)
        await kept_pictures.of(request).put(key, ask.image_id, answered.pictures[0])
    vectors = answered.results[0].embeddings[None]
    if ask.format == "binary":
        stream = io.BytesIO()
        np.save(stream, vectors, allow_pickle=False)
        return Response(stream.getvalue(), media_type=_BINARY)
    content = {"embeddings": np.ascontiguousarray(vectors), "time": answered.seconds}
    dumped = await in_thread(orjson.dumps, content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(dumped, media_type="application/json")


@router.post("/sam/segment_image", openapi_extra=json_schema(SegmentRequest))
async def segment_image(request: Request) -> Response:
    """One mask a prompt, or three: as outlines, or as a ``.npz`` file (``format: binary``) of ``masks`` and logits."""
    ask = await read_body(request, SegmentRequest)
    service = service_of(request)
    manifest = await _manifest(request, ask)
    settings = ask.settings()
    sample: dict[str, Any] = {}
    pictures: list[Read] = []
    if ask.embeddings is not None:
        if ask.orig_im_size is None:
            raise InvalidParameter("'embeddings' need 'orig_im_size', the height and width of their picture.")
        sample["embeddings"] = await _floats("embeddings", ask.embeddings, ask.embeddings_format, _EMBEDDINGS)
    else:
        pictures = [kept_pictures.reading(request, ask)]
    if ask.has_mask_input:
        sample["mask_input"] = await _earlier_mask(request, ask, manifest)
    answered = await service.ask_samples(request, manifest, [sample], settings, pictures=pictures, outputs=_ANSWERS)
    found = answered.results[0]
    if ask.image_id and answered.pictures:
        selected = {manifest.id: found.logits[int(found.scores.argmax())].copy()}
        key = kept_pictures.caller(request, ask)
        await kept_pictures.of(request).put(key, ask.image_id, answered.pictures[0], selected)
    if ask.format == "binary":
        return Response(await in_thread(_npz, found), media_type=_BINARY)
    masks = {
        "masks": [polygon.tolist() for polygon in found.polygons],
        "low_res_masks": [_outline(logits > 0).tolist() for logits in found.logits],
        "scores": found.scores.tolist(),
    }
    return reply(masks | {"time": answered.seconds})


async def _manifest(request: Request, ask: SamRequest) -> Manifest:
    return await model_of(request, await named(request, ask, "sam", "sam_version_id"), (tasks.PROMPTABLE.name,))


async def _earlier_mask(request: Request, ask: SegmentRequest, manifest: Manifest) -> np.ndarray:
    """The logits that a prompt refines: its own, else the last ones of this picture."""
    if ask.mask_input is not None:
        return await _floats("mask_input", ask.mask_input, ask.mask_input_format, _LOGITS)
    if ask.use_mask_input_cache and ask.image_id:
        kept = await kept_pictures.of(request).get(kept_pictures.caller(request, ask), ask.image_id)
        if manifest.id in kept.logits:
            return kept.logits[manifest.id]
    raise InvalidParameter("There is no earlier mask of this picture.", hint="Send 'mask_input'.")


# ---- arrays ----------------------------------------------------------------------------------------------------------


async def _floats(name: str, value: Any, form: Form, shape: tuple[int, ...]) -> np.ndarray:
    """float32 array of ``shape``, which may have axes of one before it. Raises InvalidParameter."""
    array = await in_thread(_read, value, form)
    if array is not None:
        size = array.shape
        while len(size) > len(shape) and size[0] == 1:
            size = size[1:]
        if size == shape and np.isfinite(array).all():
            return array.reshape(shape)
    raise InvalidParameter(f"'{name}' must be {' x '.join(map(str, shape))} finite numbers.")


def _read(value: Any, form: Form) -> np.ndarray | None:
    """float32 out of nested lists, or out of base64 of a ``.npy`` file; None of anything else."""
    try:
        if form == "json":
            return np.array(value, dtype=np.float32) if isinstance(value, list) else None
        return read_npy(from_base64(value), FLOATS).astype(np.float32) if isinstance(value, str) else None
    except (ValueError, TypeError, OverflowError, InvalidPicture):
        return None


def _outline(mask: np.ndarray) -> np.ndarray:
    """int ``[n,2]`` (x, y) of a bool mask: of all outer contours the one with the most vertices, empty where it is."""
    return max(outlines(mask), key=len, default=np.empty((0, 2), dtype=np.int32))


def _npz(found: SAMPrediction) -> bytes:
    """``masks`` uint8 0 or 1 ``[k,h,w]``, ``low_res_masks`` float32 logits ``[k,256,256]``, > 0 is the object, and
    ``scores`` float32 ``[k]``.
    """
    assert found.masks is not None and found.logits is not None, "an archive is asked for with both"
    arrays: Mapping[str, np.ndarray] = {
        "masks": found.masks.to_dense().astype(np.uint8), "low_res_masks": found.logits, "scores": found.scores,
    }  # fmt: skip
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
