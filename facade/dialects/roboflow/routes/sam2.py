"""Roboflow's dialect: ``/sam2/embed_image`` and ``/sam2/segment_image``.

Each prompt is answered by the best of three proposals, or by the model's single answer.
"""

from __future__ import annotations

import hashlib
import io
import time
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from starlette.requests import Request
from starlette.responses import Response

from tritonvision import tasks
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.body import read_body
from tritonvision.facade.dialects.common.schemas import AtMost, RequestFields, json_schema
from tritonvision.facade.dialects.roboflow import kept_pictures
from tritonvision.facade.dialects.roboflow.model_choice import model_of, named
from tritonvision.facade.dialects.roboflow.schemas import Picture
from tritonvision.facade.rendering.opencv import outlines
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.workers import in_thread
from tritonvision.publication import Manifest
from tritonvision.results import SAMPrediction

router = Routes(tags=["Roboflow"])

_BINARY = "application/octet-stream"
_ANSWERS = ("masks", "scores", "low_res_masks", "image_size")


class Sam2Request(RequestFields):
    """Fields of both routes. The version names the model: ``hiera_tiny``, ``hiera_small``, ``hiera_b_plus`` or
    ``hiera_large``; or ``model_id`` does.
    """

    api_key: Any = None
    model_id: str = ""
    image: Picture | None = None
    image_id: Annotated[str, Field(max_length=200)] | None = None
    sam2_version_id: str = "hiera_large"


class PromptPoint(RequestFields):
    """A point, pixels, on the object or off it."""

    x: float
    y: float
    positive: bool = True


class PromptBox(RequestFields):
    """A box around the object: its centre and its size, pixels."""

    x: float
    y: float
    width: float
    height: float


class Prompt(RequestFields):
    """What is meant: a box, points, or both; nothing is the network's own guess."""

    box: PromptBox | None = None
    points: Annotated[list[PromptPoint], AtMost("max_regions")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _means_something(cls, given: Any) -> Any:
        if isinstance(given, dict) and given and not given.keys() & {"box", "points"}:
            raise ValueError("a prompt has a box, points, or both")
        return given

    def settings(self, many: bool) -> dict[str, Any]:
        """Every setting of the task. Raises InvalidParameter."""
        points = self.points or []
        box = self.box and [
            self.box.x - self.box.width / 2, self.box.y - self.box.height / 2,
            self.box.x + self.box.width / 2, self.box.y + self.box.height / 2,
        ]  # fmt: skip
        return tasks.resolve(tasks.PROMPTABLE.parameters, {
            "points": [[point.x, point.y] for point in points] or None,
            "point_labels": [float(point.positive) for point in points] or None, "box": box, "multimask": many,
        })  # fmt: skip


def _listed(given: Any) -> Any:
    """Prompts come as a list, as ``{"prompts": [...]}``, as one prompt, or not at all."""
    if given is None:
        return []
    if isinstance(given, dict):
        return given["prompts"] if "prompts" in given else [given]
    return given


class Sam2SegmentRequest(Sam2Request):
    """``/sam2/segment_image``: a picture, or the id of one, and prompts; each is answered by one prediction.

    ``save_logits_to_cache`` keeps the mask of each prompt with the ``image_id``, and ``load_logits_from_cache`` refines
    what was kept for the prompt at the same place, where something was.
    """

    prompts: Annotated[list[Prompt], AtMost("max_regions"), BeforeValidator(_listed)] = []
    format: Literal["json", "rle", "binary"] = "json"
    multimask_output: bool = True
    save_logits_to_cache: bool = False
    load_logits_from_cache: bool = False


@router.post("/sam2/embed_image", openapi_extra=json_schema(Sam2Request))
async def embed_image(request: Request) -> Response:
    """Encode a picture, so that prompts about it are answered sooner, and keep it under its ``image_id``."""
    ask = await read_body(request, Sam2Request)
    manifest = await _manifest(request, ask)
    answered = await service_of(request).ask_samples(
        request, manifest, [{}], tasks.resolve(tasks.PROMPTABLE.parameters, {}),
        pictures=[kept_pictures.reading(request, ask)], outputs=("embeddings", "image_size"),
    )  # fmt: skip
    image_id = ask.image_id or hashlib.sha256(answered.pictures[0]).hexdigest()[:32]
    await kept_pictures.of(request).put(kept_pictures.caller(request, ask), image_id, answered.pictures[0])
    return reply({"image_id": image_id, "time": answered.seconds})


@router.post("/sam2/segment_image", openapi_extra=json_schema(Sam2SegmentRequest))
async def segment_image(request: Request) -> Response:
    """The mask of each prompt: as outlines, as run lengths, or as a ``.npz`` file of ``masks`` and logits."""
    ask = await read_body(request, Sam2SegmentRequest)
    started = time.monotonic()
    manifest = await _manifest(request, ask)
    settings = [prompt.settings(ask.multimask_output) for prompt in ask.prompts or [Prompt()]]
    read = kept_pictures.reading(request, ask)
    found: list[SAMPrediction] = []
    for index, asked in enumerate(settings):
        sample: dict[str, Any] = {}
        earlier = await _earlier(request, ask, f"{manifest.id} {index}")
        if earlier is not None:
            sample["mask_input"] = earlier
        answered = await service_of(request).ask_samples(
            request, manifest, [sample], asked, pictures=[read], outputs=_ANSWERS
        )
        read = kept_pictures.ready(answered.pictures[0])
        found.append(_best(answered.results[0]))
        if ask.image_id:
            logits = {}
            if ask.save_logits_to_cache:
                assert found[-1].logits is not None, "asked for"
                logits[f"{manifest.id} {index}"] = found[-1].logits[0].copy()
            key = kept_pictures.caller(request, ask)
            await kept_pictures.of(request).put(key, ask.image_id, answered.pictures[0], logits)
    if ask.format == "binary":
        return Response(await in_thread(_npz, found), media_type=_BINARY)
    predictions = await in_thread(_predictions, found, ask.format == "json")
    return reply({"time": time.monotonic() - started, "predictions": predictions})


async def _manifest(request: Request, ask: Sam2Request) -> Manifest:
    return await model_of(request, await named(request, ask, "sam2", "sam2_version_id"), (tasks.PROMPTABLE.name,))


async def _earlier(request: Request, ask: Sam2SegmentRequest, name: str) -> np.ndarray | None:
    """The logits that were kept for a prompt, if they are wanted and there are any. Raises InvalidPicture."""
    if not ask.load_logits_from_cache or not ask.image_id or ask.image is not None:
        return None
    kept = await kept_pictures.of(request).get(kept_pictures.caller(request, ask), ask.image_id)
    return kept.logits.get(name)


def _best(found: SAMPrediction) -> SAMPrediction:
    """The proposal with the highest score alone."""
    assert found.masks is not None and found.logits is not None, "asked for"
    best = int(found.scores.argmax())
    masks = type(found.masks)(found.masks.image_size, found.masks.masks[best : best + 1])
    chosen = slice(best, best + 1)
    return SAMPrediction(found.scores[chosen], masks, None, found.logits[chosen], found.image_metadata)


def _predictions(found: list[SAMPrediction], outlined: bool) -> list[dict[str, Any]]:
    answers = []
    for one in found:
        assert one.masks is not None
        if outlined:
            masks: Any = [outline.tolist() for outline in outlines(one.masks.to_dense()[0])]
        else:
            (counts,) = one.masks.masks
            masks = {"size": list(one.masks.image_size), "counts": counts.decode()}
        form = "polygon" if outlined else "rle"
        answers.append({"masks": masks, "confidence": float(one.scores[0]), "format": form})
    return answers


def _npz(found: list[SAMPrediction]) -> bytes:
    """``masks`` uint8 0 or 1 ``[n,h,w]`` and ``low_res_masks`` float32 logits ``[n,256,256]``, one a prompt."""
    stream = io.BytesIO()
    masks = np.concatenate([one.masks.to_dense() for one in found if one.masks is not None])
    logits = np.concatenate([one.logits for one in found if one.logits is not None])
    np.savez_compressed(stream, masks=masks.astype(np.uint8), low_res_masks=logits)
    return stream.getvalue()
