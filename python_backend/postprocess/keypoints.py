"""Key points: boxes with points, overlapping candidates averaged by score, as MediaPipe's weighted NMS does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.postprocess import dense_boxes

TASK = tasks.KEYPOINT_DETECTION


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Candidates of one picture to its instances, best first.

    The best candidate takes all whose IoU with it is over the threshold into a group; the instance has the group's
    score-weighted mean box and points and the best score (mediapipe NonMaxSuppressionCalculator, WEIGHTED).

    Args:
        tensors: those of dense boxes and ``keypoints [K,k,2]`` float32 in network pixels.

    Returns:
        ``boxes``, ``scores``, ``class_ids`` and ``keypoints [n,k,2]`` in picture pixels; boxes are clipped, points not.
    """
    order = dense_boxes.candidates(tensors["scores"], parameters)
    rows = np.concatenate([tensors["boxes"], tensors["keypoints"].reshape(len(tensors["boxes"]), -1)], axis=1)
    rows, scores, class_ids = rows[order], tensors["scores"][order], tensors["class_ids"][order]
    left = np.arange(len(order))
    means: list[np.ndarray] = []
    best_rows: list[int] = []
    while left.size and len(means) < parameters["max_detections"]:
        same = _iou(rows[left[0], :4], rows[left, :4]) > np.float32(parameters["iou_threshold"])
        if not parameters["class_agnostic_nms"]:
            same &= class_ids[left] == class_ids[left[0]]
        same[0] = True  # a box of no area overlaps nothing, not even itself
        weights = scores[left[same]].astype(np.float64)
        means.append(weights @ rows[left[same]] / weights.sum())
        best_rows.append(int(left[0]))
        left = left[~same]
    found = np.asarray(means, dtype=np.float32).reshape(len(means), rows.shape[1])
    kept = np.asarray(best_rows, dtype=np.int64)
    if parameters["classes"] is not None:
        wanted = np.isin(class_ids[kept], parameters["classes"])
        found, kept = found[wanted], kept[wanted]
    points = found[:, 4:].reshape(len(found), *tensors["keypoints"].shape[1:])
    return {
        "boxes": dense_boxes.to_picture(found[:, :4], geometry),
        "scores": scores[kept],
        "class_ids": class_ids[kept].astype(np.int32),
        "keypoints": geometry.to_picture(points).astype(np.float32),
    }


def _iou(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """IoU of one box with ``[n,4]`` others; 0 where the union is empty."""
    size = np.maximum(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0)
    inter = size[:, 0] * size[:, 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = (box[2] - box[0]) * (box[3] - box[1]) + areas - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
