"""Shared by open-vocabulary detectors: the class names of a request, and the selection of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.postprocess import dense_boxes


def class_names(parameters: Mapping[str, Any], most: int) -> list[str]:
    """The texts of a request, one a class, as the caller wrote them; class ids count them.

    Args:
        parameters: settings of the task, resolved.
        most: classes that one request may name.

    Raises:
        InvalidParameter: there are none, too many, or one says nothing.
    """
    texts = parameters["texts"]
    if not texts:
        raise InvalidParameter(
            "The request names no classes.", hint='Say in \'texts\' what to look for, for example ["a cat", "a dog"].'
        )
    if len(texts) > most:
        raise InvalidParameter(
            f"A request may name {most} classes, not {len(texts)}.", hint="Ask for some of them at a time."
        )
    for index, text in enumerate(texts):
        if not text.strip():
            raise InvalidParameter(f"The text of class {index} is empty.", hint="Leave it out or say what to look for.")
    return list(texts)


def select(
    boxes: np.ndarray, scores: np.ndarray, size: tuple[int, int], parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Candidates of one picture to its detections, best first; ties keep the candidates' order.

    Args:
        boxes: float32 ``[N,4]`` corners in picture pixels, which may reach over the picture.
        scores: float32 ``[N,C]`` of every class, from 0 to 1; a class that cannot be meant has less than 0.
        size: height and width of the picture.
        parameters: settings of the task, resolved: a box counts as its best class when that is over ``confidence``;
            suppressed are overlaps over ``iou_threshold``, unless it is None, within a class or, with
            ``class_agnostic_nms``, among all; the best ``max_detections`` stay.

    Returns:
        ``boxes`` float32 ``[n,4]`` clipped to the picture, ``scores`` float32 ``[n]``, ``class_ids`` int32 ``[n]``,
        ``image_size`` int32 ``[2]``.
    """
    height, width = size
    class_ids = scores.argmax(axis=1) if scores.size else np.zeros(len(scores), np.int64)
    best = scores[np.arange(len(scores)), class_ids] if scores.size else np.zeros(0, np.float32)
    above = np.flatnonzero(best > np.float32(parameters["confidence"]))
    order = above[np.argsort(-best[above], kind="stable")]
    if parameters["iou_threshold"] is not None:
        order = order[_unsuppressed(boxes[order], class_ids[order], parameters)]
    order = order[: parameters["max_detections"]]
    limits = np.array([width, height] * 2, dtype=np.float32)
    return {
        "boxes": np.clip(boxes[order], 0, limits).astype(np.float32),
        "scores": best[order].astype(np.float32),
        "class_ids": class_ids[order].astype(np.int32),
        "image_size": np.array([height, width], dtype=np.int32),
    }


def _unsuppressed(boxes: np.ndarray, class_ids: np.ndarray, parameters: Mapping[str, Any]) -> np.ndarray:
    """int64: indices of ``boxes``, best first, that no better one suppresses, in their order."""
    groups = np.zeros_like(class_ids) if parameters["class_agnostic_nms"] else class_ids
    kept = []
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        kept.append(rows[dense_boxes.nms(boxes[rows], parameters["iou_threshold"], parameters["max_detections"])])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)
