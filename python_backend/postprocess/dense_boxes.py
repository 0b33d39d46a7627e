"""Dense boxes: threshold, non-maximum suppression and the mapping to picture pixels, as ultralytics' predict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry

TASK = tasks.OBJECT_DETECTION

# What the network gives, see post().
CANDIDATES, FINAL = "candidates", "final"

# ultralytics.utils.nms keeps classes apart by shifting boxes this many pixels a class, in float32.
_CLASS_SHIFT = np.float32(7680)


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any], given: str = CANDIDATES
) -> dict[str, np.ndarray]:
    """Candidates of one picture to its detections, best first.

    Args:
        tensors: ``boxes [K,4]`` float32 corners in network pixels, ``scores [K]`` float32, ``class_ids [K]`` int32.
        parameters: all settings of the detection tasks, resolved; those of suppression have no effect on final boxes.
        given: ``candidates``, of which the best are kept by non-maximum suppression, or ``final`` boxes, of which the
            network or its graph has kept the best already.

    Returns:
        The same three names for the survivors; boxes in picture pixels, clipped to the picture.
    """
    kept = survivors(tensors, parameters, given)
    return {
        "boxes": to_picture(tensors["boxes"][kept], geometry),
        "scores": tensors["scores"][kept],
        "class_ids": tensors["class_ids"][kept].astype(np.int32),
    }


def survivors(tensors: Mapping[str, np.ndarray], parameters: Mapping[str, Any], given: str = CANDIDATES) -> np.ndarray:
    """int64: which of the candidates of :func:`post` are its answer, best first."""
    order = candidates(tensors["scores"], parameters)
    if given == FINAL:
        return chosen(order, tensors["class_ids"], parameters)
    boxes, class_ids = tensors["boxes"][order], tensors["class_ids"][order]
    shift = 0 if parameters["class_agnostic_nms"] else class_ids.astype(np.float32)[:, None] * _CLASS_SHIFT
    kept = nms(boxes + shift, parameters["iou_threshold"], parameters["max_detections"])
    if parameters["classes"] is not None:
        kept = kept[np.isin(class_ids[kept], parameters["classes"])]
    return order[kept]


def chosen(order: np.ndarray, class_ids: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """Of the indices ``order``, best first, those of the wanted classes, at most ``max_detections``.

    The classes are chosen first, so that no other class takes their places.
    """
    if parameters["classes"] is not None:
        order = order[np.isin(class_ids[order], parameters["classes"])]
    return order[: parameters["max_detections"]]


def candidates(scores: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """Indices of the candidates over the threshold, best first, at most ``max_candidates``; ties keep their order."""
    above = np.flatnonzero(scores > np.float32(parameters["confidence"]))
    return above[np.argsort(-scores[above], kind="stable")][: parameters["max_candidates"]]


def to_picture(boxes: np.ndarray, geometry: Geometry) -> np.ndarray:
    """``[n,4]`` corners in network pixels to float32 corners in picture pixels, clipped."""
    corners = geometry.to_picture(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    limits = np.array([geometry.width, geometry.height] * 2, dtype=np.float32)
    return np.clip(corners, 0, limits).astype(np.float32)


def nms(boxes: np.ndarray, iou_threshold: float, most: int) -> np.ndarray:
    """Greedy non-maximum suppression over ``[n,4]`` float32 corners sorted by score.

    The arithmetic is torchvision's CPU kernel in float32: a box goes when its IoU with a better one is *greater* than
    the threshold.

    Returns:
        Indices of at most ``most`` survivors, in order.
    """
    x1, y1, x2, y2 = np.ascontiguousarray(boxes.T)
    areas = (x2 - x1) * (y2 - y1)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while left.size and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(best)
        width = np.maximum(np.minimum(x2[best], x2[left]) - np.maximum(x1[best], x1[left]), 0)
        height = np.maximum(np.minimum(y2[best], y2[left]) - np.maximum(y1[best], y1[left]), 0)
        inter = width * height
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = inter / (areas[best] + areas[left] - inter)
        left = left[~(iou.astype(np.float64) > iou_threshold)]  # the kernel holds its threshold in double
    return np.asarray(kept, dtype=np.int64)
