"""What detectors with queries share: the classes of their sparse columns, the calibration of random ones, answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.libraries import torch_env

if TYPE_CHECKING:
    import torch

# Class logit of a column that stands for no class: as low as training makes it, and the reference pipeline shows it.
UNNAMED = -20.0
_BOXES = 20, 40  # so many shall be over the threshold on the photo; the widest gap between these ranks is the cut


def coco_columns() -> dict[int, str]:
    """Category ids of COCO, 1 to 90 with ten gaps, and their 80 names: the columns of networks trained on its ids."""
    torch_env.import_torchvision()
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {column: name for column, name in enumerate(categories) if column and name != "N/A"}


def seen_by(layers: Sequence[torch.nn.Module], run: Callable[[], Any]) -> list[torch.Tensor]:
    """What reaches each of ``layers``, whose channels are the last axis, the first time that ``run`` calls it; float64.

    :func:`calibrate.inputs_of` is for layers whose channels come second, and takes the last call.
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
    """The level that 20 to 40 candidates are over, in the middle of the widest gap there: no rounding closes it.

    Args:
        levels: ``[n]``, the higher the surer.
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
    """What a reference pipeline found, best first, under those settings of the task that the library does not
    have: suppression with torchvision's arithmetic, a number of boxes, and the picture's edges.

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
    """A reference pipeline's detections as public outputs: columns become class ids, settings it lacks are heeded.

    Args:
        boxes: ``[n,4]`` corners in picture pixels; not clipped ones are clipped by the caller.
        columns: ``[n]`` raw class columns; what is not among ``named`` stands for no class.
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
