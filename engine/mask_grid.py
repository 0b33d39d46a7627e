"""Every object of a picture: a grid of points over a promptable model, its good masks, each object once.

The steps and their defaults are those of transformers' ``MaskGenerationPipeline`` over ``SamImageProcessor``, without
crops: points in the middle of the cells of a grid, three masks a point, filtered by predicted IoU and by stability,
then non-maximum suppression over their boxes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.results import InstancesRLEMasks, Result, SAMImageEmbeddings, SAMPrediction
from tritonvision.tasks import Parameter

PARAMETERS = (
    tasks.AUTO_ORIENT,
    Parameter("points_per_side", "int", 32, 1, 100),
    Parameter("points_per_batch", "int", 64, 1, 256),  # points of one request
    Parameter("pred_iou_thresh", "float", 0.88, 0.0, 1.0),  # the score of a mask is over it; 0 leaves none out
    Parameter("stability_score_thresh", "float", 0.95, 0.0, 1.0),  # its stability is over it; 0 leaves none out
    Parameter("stability_score_offset", "float", 1.0, 0.0, 100.0),  # how far the threshold of logits moves for it
    Parameter("mask_threshold", "float", 0.0, -100.0, 100.0),  # a logit over it belongs to the mask
    Parameter("crops_nms_thresh", "float", 0.7, 0.0, 1.0),  # overlap of boxes that suppresses
)
_FEATURES, _MASKS = ("embeddings", "image_size"), ("masks", "scores", "image_size")

# ask(sample, settings of the task, wanted outputs) -> the model's answer
Ask = Callable[[Mapping[str, Any], Mapping[str, Any], Sequence[str]], Awaitable[Result]]


@dataclass(frozen=True)
class Progress:
    """How many of the grid's points are done."""

    done: int
    total: int


async def walk(
    ask: Ask, picture: bytes, parameters: Mapping[str, Any]
) -> AsyncGenerator[Progress | SAMPrediction, None]:
    """Yields the progress after each batch of points, and the masks at the end. Closing it stops further requests.

    Args:
        ask: sends one request to the model. The first one encodes the picture and takes longest.
        picture: encoded, or ``.npy`` bytes.
        parameters: of :data:`PARAMETERS`; what is absent takes its default.

    Raises:
        InvalidParameter, and what ``ask`` raises.
    """
    settings = tasks.resolve(PARAMETERS, parameters)
    encoding = await ask({"image": picture}, {"auto_orient": settings["auto_orient"]}, _FEATURES)
    assert isinstance(encoding, SAMImageEmbeddings)
    height, width = encoding.image_size_hw
    # its encoding is kept where the model runs, and is larger than the picture
    sample, oriented = {"image": picture}, {"auto_orient": settings["auto_orient"]}
    total = settings["points_per_side"] ** 2
    parts: list[SAMPrediction] = []
    yield Progress(0, total)
    done = 0
    for question in questions(settings, height, width):
        part = await ask(sample, question | oriented, _MASKS)
        assert isinstance(part, SAMPrediction)
        parts.append(part)
        done += len(question["points"])
        yield Progress(done, total)
    yield distinct(parts, settings["crops_nms_thresh"])


def questions(settings: Mapping[str, Any], height: int, width: int) -> Iterator[dict[str, Any]]:
    """Settings of the promptable task for each batch of the grid's points.

    Args:
        settings: all of :data:`PARAMETERS`.
        height, width: of the picture, oriented.
    """
    points = grid(settings["points_per_side"], height, width).tolist()
    for start in range(0, len(points), settings["points_per_batch"]):
        yield {
            "points": points[start : start + settings["points_per_batch"]], "each_point": True, "multimask": True,
            "min_score": settings["pred_iou_thresh"], "min_stability": settings["stability_score_thresh"],
            "stability_offset": settings["stability_score_offset"], "mask_threshold": settings["mask_threshold"],
        }  # fmt: skip


def grid(side: int, height: int, width: int) -> np.ndarray:
    """float32 ``[side * side, 2]``: x, y in pixels of the middle of each cell, row by row."""
    middles = np.linspace(1 / (2 * side), 1 - 1 / (2 * side), side).astype(np.float32)
    x, y = np.meshgrid(middles * np.float32(width), middles * np.float32(height))
    return np.stack([x.ravel(), y.ravel()], axis=1)


def distinct(parts: Sequence[SAMPrediction], threshold: float) -> SAMPrediction:
    """The masks of all ``parts``, best first, one an object.

    Args:
        parts: of one picture, with run lengths.
        threshold: IoU of two boxes over which only the better one's mask stays.
    """
    found = [part.masks for part in parts if part.masks is not None]
    assert len(found) == len(parts), "asked without run lengths"
    size = found[0].image_size
    scores = np.concatenate([part.scores for part in parts])
    masks = [counts for part in found for counts in part.masks]
    kept = _suppress(boxes(InstancesRLEMasks(size, masks)), scores, threshold)
    return SAMPrediction(
        scores[kept], InstancesRLEMasks(size, [masks[i] for i in kept]), image_metadata=parts[0].image_metadata
    )


def boxes(masks: InstancesRLEMasks) -> np.ndarray:
    """float32 ``[n,4]``: the first and the last column and row of each mask, as left, top, right, bottom; or zeros."""
    if not masks.masks:
        return np.zeros((0, 4), dtype=np.float32)
    found = coco.toBbox(masks.to_coco_rle_masks())
    found[:, 2:] = np.maximum(found[:, :2] + found[:, 2:] - 1, 0)
    return found.astype(np.float32)


def _suppress(corners: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Rows that stay, best first, as torchvision's ``nms``, where a box without an area overlaps nothing."""
    left, top, right, bottom = corners.T
    area = (right - left) * (bottom - top)
    order, kept = np.argsort(-scores, kind="stable"), []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(int(best))
        across = np.minimum(right[best], right[order]) - np.maximum(left[best], left[order])
        down = np.minimum(bottom[best], bottom[order]) - np.maximum(top[best], top[order])
        both = np.maximum(across, 0) * np.maximum(down, 0)
        either = area[best] + area[order] - both
        overlap = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
        order = order[~(overlap.astype(np.float64) > threshold)]
    return kept
