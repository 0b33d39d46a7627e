"""Cropped masks: candidates of several classes a box, thinned at once, and masks that are cut before they are enlarged.

The steps are those of YOLACT's own code: "fast" non-maximum suppression, in which also a box that is suppressed itself
suppresses others, and masks that are probabilities at the size of the prototypes, set to 0 outside their box and one
cell around it, then enlarged to the picture. So a mask may reach over its box by the width of a cell.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.pictures import size_of
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.masks import run_lengths
from tritonvision.python_backend.masks.decode import Axis, decode
from tritonvision.python_backend.postprocess import dense_boxes

TASK = tasks.INSTANCE_SEGMENTATION

_OF_A_CLASS = 200  # candidates of which suppression looks at the best
_MARGIN = 1  # cells around a box in which its mask may lie
_LEVEL = 0.5  # probability over which a pixel belongs to the mask
_ONE = np.ones(1, dtype=np.float32)


def post(tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Candidates of one picture to its instances, best first.

    Args:
        tensors: ``boxes [K,4]``, ``scores [K]``, ``class_ids [K]``, ``coefficients [K,c]`` and ``prototypes [c,h,w]``;
            a box has a row for each class that it may be of. The prototypes cover the network's pixels.

    Returns:
        ``boxes`` float32 ``[n,4]``, ``scores`` float32 ``[n]``, ``class_ids`` int32 ``[n]``, and ``masks`` object
        ``[n]`` of bytes, one a box in the format asked for, or ``[0]`` when none was.
    """
    order = dense_boxes.candidates(tensors["scores"], parameters)
    boxes, class_ids = tensors["boxes"][order], tensors["class_ids"][order]
    kept = fast_nms(boxes, class_ids, parameters["iou_threshold"], parameters["class_agnostic_nms"])
    kept = kept[: parameters["max_detections"]]
    if parameters["classes"] is not None:
        kept = kept[np.isin(class_ids[kept], parameters["classes"])]
    order = order[kept]
    encoded = []
    if parameters["mask_format"] != "none":
        for coefficients, box in zip(tensors["coefficients"][order], tensors["boxes"][order], strict=True):
            patch, left, top = mask(coefficients, tensors["prototypes"], box, geometry)
            encoded.append(
                run_lengths.encode(patch, left, top, geometry.height, geometry.width, parameters["mask_format"])
            )
    return {
        "boxes": dense_boxes.to_picture(tensors["boxes"][order], geometry),
        "scores": tensors["scores"][order],
        "class_ids": tensors["class_ids"][order].astype(np.int32),
        "masks": np.array(encoded, dtype=object),
    }


def fast_nms(boxes: np.ndarray, class_ids: np.ndarray, iou_threshold: float, agnostic: bool) -> np.ndarray:
    """Of ``[K,4]`` corners, best first, those that overlap no better one of their class by more than the threshold.

    The better one need not be kept itself. Of each class the best 200 are looked at.

    Args:
        agnostic: whether classes do not matter; then each box counts once, as its best class.

    Returns:
        int64, ascending.
    """
    groups = class_ids
    rows = np.arange(len(boxes))
    if agnostic and len(boxes):
        rows = np.sort(np.unique(boxes, axis=0, return_index=True)[1])
        groups = np.zeros_like(class_ids)
    kept = []
    for group in np.unique(groups[rows]):
        some = rows[groups[rows] == group][:_OF_A_CLASS]
        overlap = np.triu(_ious(boxes[some]), 1)
        kept.append(some[overlap.max(axis=0) <= np.float32(iou_threshold)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, dtype=np.int64)


def _ious(boxes: np.ndarray) -> np.ndarray:
    """float32 ``[n,n]``: of each of ``[n,4]`` corners with each; 0 where both are empty."""
    sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    inter = sides.clip(0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = areas[:, None] + areas[None] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def mask(
    coefficients: np.ndarray, prototypes: np.ndarray, box: np.ndarray, geometry: Geometry
) -> tuple[np.ndarray, int, int]:
    """The mask of one instance: bool ``[h,w]``, and the picture's column and row where it begins.

    Args:
        coefficients: float32 ``[c]``.
        prototypes: float32 ``[c,h,w]``.
        box: corners in network pixels.
    """
    cells = size_of(prototypes[0])
    lengths = geometry.height, geometry.width
    sides = round(geometry.height * geometry.gain_y), round(geometry.width * geometry.gain_x)
    (top, bottom), (left, right) = (
        _cells(low, high, count / side, count)
        for low, high, count, side in zip(box[[1, 0]], box[[3, 2]], cells, sides, strict=True)
    )
    shares = np.zeros(cells, dtype=np.float32)
    window = prototypes[:, top:bottom, left:right]
    logits = (coefficients @ window.reshape(len(window), -1)).reshape(window.shape[1:])
    with np.errstate(over="ignore"):
        shares[top:bottom, left:right] = 1 / (1 + np.exp(-logits))
    rows, columns = (Axis(count, 1, 0, count, length) for count, length in zip(cells, lengths, strict=True))
    (y1, y2), (x1, x2) = _pixels(top, bottom, rows), _pixels(left, right, columns)
    return decode(_ONE, shares[None], rows, columns, (x1, y1, x2, y2), _LEVEL), x1, y1


def _cells(low: float, high: float, scale: float, count: int) -> tuple[int, int]:
    """First cell and the one behind the last of what lies between ``low`` and ``high``, and a margin around it."""
    first = math.ceil(max(float(low) * scale - _MARGIN, 0))
    return first, max(math.ceil(min(float(high) * scale + _MARGIN, count)), first)


def _pixels(first: int, end: int, axis: Axis) -> tuple[int, int]:
    """The picture's pixels that depend on the cells ``first`` to ``end``: the first, and the one behind the last."""
    size = axis.length / axis.cells  # pixels a cell
    start = 0 if first == 0 else max(math.floor((first - 0.5) * size - 0.5), 0)
    stop = axis.length if end == axis.cells else min(math.ceil((end + 0.5) * size - 0.5) + 1, axis.length)
    return min(start, stop), stop
