"""Shared by detectors with queries: COCO's class columns, calibration of random networks, public outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.libraries import torch_env

if TYPE_CHECKING:
    import torch

# Class logit of a column without a class: as low as training makes it; the reference pipeline reports such columns.
UNNAMED = -20.0
_BOXES = 20, 40  # how many should exceed the threshold on the photo; the cut is the widest gap between these ranks


def coco_columns() -> dict[int, str]:
    """Category ids of COCO, 1 to 90 with ten gaps, and their 80 names: the columns of networks trained with them."""
    torch_env.import_torchvision()
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {column: name for column, name in enumerate(categories) if column and name != "N/A"}


def coco_names() -> tuple[str, ...]:
    """The names of COCO's 80 classes in their order."""
    return tuple(coco_columns().values())


def seen_by(layers: Sequence[torch.nn.Module], run: Callable[[], Any]) -> list[torch.Tensor]:
    """The input of each of ``layers``, channels last, at its first call within ``run``; float64.

    :func:`calibrate.inputs_of` is for layers with channels second, and records the last call.
    """
    import torch

    seen: dict[int, torch.Tensor] = {}

    def keep(index: int):
        def look(_, arguments) -> None:
            seen.setdefault(index, arguments[0].detach().double())

        return look

    hooks = [layer.register_forward_pre_hook(keep(index)) for index, layer in enumerate(layers)]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()
    return [seen[index] for index in range(len(layers))]


def cut(levels: np.ndarray, class_ids: np.ndarray, class_count: int) -> float:
    """A level that 20 to 40 candidates exceed, in the middle of the widest gap: rounding does not change their number.

    Args:
        levels: ``[n]``, higher for more confident candidates.
        class_ids: ``[n]``.

    Raises:
        NoSignal: fewer than 20 candidates, or one class of several: the network carries no signal.
    """
    order = np.argsort(-levels, kind="stable")
    levels, class_ids = levels[order].astype(np.float64), class_ids[order]
    low, high = _BOXES
    gaps = levels[low - 1 : high] - levels[low : high + 1]
    if len(gaps) == 0 or not np.isfinite(gaps).any() or len(set(class_ids[:low].tolist())) < min(2, class_count):
        raise NoSignal()
    after = low - 1 + int(np.nanargmax(np.where(np.isfinite(gaps), gaps, np.nan)))
    return float((levels[after] + levels[after + 1]) / 2)


def limited(
    boxes: np.ndarray, scores: np.ndarray, class_ids: np.ndarray, size: tuple[int, int], parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """A reference pipeline's detections, best first, after applying the settings of the task that the library
    lacks: suppression with torchvision's arithmetic, a maximum number of boxes, and clipping to the picture.

    Args:
        boxes: float32 ``[n,4]`` corners in picture pixels.
        size: (height, width) of the picture.
    """
    order = np.argsort(-scores, kind="stable")
    if parameters["iou_threshold"] is not None:
        groups = np.zeros_like(class_ids) if parameters["class_agnostic_nms"] else class_ids
        kept = np.zeros(len(scores), dtype=bool)
        for group in np.unique(groups):
            rows = order[groups[order] == group]
            kept[rows[torch_env.greedy_nms(boxes[rows], scores[rows], parameters["iou_threshold"])]] = True
        order = order[kept[order]]
    order = order[: parameters["max_detections"]]
    return {
        "boxes": boxes[order].clip(0, [*size[::-1]] * 2).astype(np.float32),
        "scores": scores[order],
        "class_ids": class_ids[order].astype(np.int32),
        "image_size": np.array(size, dtype=np.int32),
    }


def logit(probability: float) -> float:
    """The inverse of the sigmoid."""
    return math.log(probability / (1 - probability))


def corners(boxes: np.ndarray) -> np.ndarray:
    """Centre and size, ``[...,4]``, to the upper left and the lower right corner."""
    centres, sizes = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=-1)


def answer(
    boxes: np.ndarray, scores: np.ndarray, columns: np.ndarray, named: Sequence[int], parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """A reference pipeline's detections as public outputs: columns become class ids, missing settings are applied.

    Args:
        boxes: ``[n,4]`` corners in picture pixels; the caller clips them.
        columns: ``[n]`` raw class columns; those that are not among ``named`` stand for no class.
    """
    class_ids = np.full(max([*named, *columns.tolist()], default=0) + 1, -1, dtype=np.int32)
    class_ids[list(named)] = np.arange(len(named))
    found = class_ids[columns]
    kept = np.flatnonzero(found >= 0)
    kept = kept[np.argsort(-scores[kept], kind="stable")][: parameters["max_candidates"]]
    if parameters["classes"] is not None:
        kept = kept[np.isin(found[kept], parameters["classes"])]
    kept = kept[: parameters["max_detections"]]
    return {
        "boxes": boxes[kept].astype(np.float32),
        "scores": scores[kept].astype(np.float32),
        "class_ids": found[kept],
    }
