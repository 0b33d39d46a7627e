"""Hugging Face's tasks of masks: the instances that a model knows, and every object by a grid of points."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from tritonvision import tasks
from tritonvision.engine import mask_grid
from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.common.labels import name_of
from tritonvision.facade.dialects.huggingface import responses as formats
from tritonvision.facade.dialects.huggingface.request import Question, Task
from tritonvision.facade.workers import in_thread
from tritonvision.results import InstancesRLEMasks, SAMPrediction
from tritonvision.tasks import Parameter

_SUBTASK = "instance"
_SEGMENTATION = (
    Parameter("threshold", "float", 0.9, 0.0, 1.0),
    Parameter("mask_threshold", "float", 0.5, 0.0, 1.0),
    Parameter("overlap_mask_area_threshold", "float", 0.5, 0.0, 1.0),
    Parameter("subtask", "choice", _SUBTASK, choices=(_SUBTASK, "panoptic", "semantic")),
)
# transformers' pipeline calls the points of a side those of a crop.
_ALIAS = "points_per_crop"
_GRID = tuple(p for p in mask_grid.PARAMETERS if p is not tasks.AUTO_ORIENT)
_MOST = 1000  # masks of one answer; without filters there could be gigabytes
_CROPS = Parameter("crops_n_layers", "int", 0, 0, 100)


# ---- instances -------------------------------------------------------------------------------------------------------


async def segment(question: Question) -> list[dict[str, Any]]:
    """The shape of every instance, best first."""
    given = question.given(*_SEGMENTATION)
    if given["subtask"] != _SUBTASK:
        raise InvalidParameter(f"'{question.manifest.id}' does the subtask '{_SUBTASK}', not '{given['subtask']}'.")
    for name in ("mask_threshold", "overlap_mask_area_threshold"):
        if given[name] != 0.5:
            raise InvalidParameter(f"'{name}' is 0.5 with models of this server.", hint="Leave it out.")
    answered = await question.about_picture(confidence=given["threshold"], mask_format="rle")
    found, labels = answered.results[0], answered.manifest.labels
    order = sorted(range(len(found)), key=lambda i: -found.confidence[i])
    pictures = await _pictures(found.mask, order)
    return [
        {"score": float(found.confidence[i]), "label": name_of(labels, int(found.class_id[i])), "mask": picture}
        for i, picture in zip(order, pictures, strict=True)
    ]


# ---- every object of a picture ---------------------------------------------------------------------------------------


async def generate(question: Question) -> AsyncGenerator[dict[str, Any], None]:
    """``{"done", "total"}`` points of the grid, time and again, and at last ``{"masks", "scores"}``, best first."""
    given = _grid(question)
    await question.loaded()
    steps = question.service.generate_masks(question.request, question.manifest, question.picture, given)
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, SAMPrediction):
                best = range(min(len(step.scores), _MOST))
                assert step.masks is not None, "the walk asks for run lengths"
                pictures = await _pictures(step.masks, best)
                yield {"masks": pictures, "scores": step.scores[:_MOST].tolist()}
            else:
                yield {"done": step.done, "total": step.total}


def _grid(question: Question) -> dict[str, Any]:
    """Settings of the walk. Raises InvalidParameter."""
    given = question.given(*_GRID, _CROPS)
    if given.pop(_CROPS.name):
        raise InvalidParameter("The whole picture is searched, and no crops of it: 'crops_n_layers' must be 0.")
    asked = question.asked.parameters
    if _ALIAS in asked and "points_per_side" not in asked:
        (side,) = (p for p in _GRID if p.name == "points_per_side")
        given["points_per_side"] = Parameter(_ALIAS, side.kind, side.default, side.low, side.high).check(asked[_ALIAS])
    return given


async def _pictures(masks: InstancesRLEMasks, rows: Iterable[int]) -> list[str]:
    """The PNGs of these masks: those of a large picture take a second each."""
    return [await in_thread(formats.mask, masks, row) for row in rows]


TASKS = (
    Task("image-segmentation", (tasks.INSTANCE_SEGMENTATION.name,), segment, reads=_SEGMENTATION, large=True),
    Task("mask-generation", (tasks.PROMPTABLE.name,), generate, reads=(*_GRID, _ALIAS), large=True),
)
