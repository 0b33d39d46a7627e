"""Answers of the tasks, computed without a network: what the engines of the facade's tests give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision.results import (
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    SAMPrediction,
)


def found(metadata: Mapping[str, int]) -> Detections:
    """Two boxes, best first; the second one hangs over the edge of the picture by rounding."""
    boxes = np.array([[1.25, 2.5, 21.75, 22.5], [30.9, 10.0, 40.0, 30.0]], np.float32)
    return Detections(boxes, np.array([1, 2], np.int32), np.array([0.9, 0.6], np.float32), dict(metadata))


def instances(boxes: Detections, mask_format: str) -> InstanceDetections:
    """The boxes with a triangle in the first of them and nothing in the others, as the caller wants it."""
    from pycocotools import mask

    size = boxes.image_metadata["height"], boxes.image_metadata["width"]
    shapes = np.zeros((len(boxes), *size), np.uint8)
    shapes[:1, 3:23, 2:22] = np.tril(np.ones((20, 20), np.uint8))
    triangle, nothing = np.array([[2, 3], [2, 22], [21, 22]], np.int32), np.zeros((0, 2), np.int32)
    found = InstanceDetections(boxes.xyxy, boxes.class_id, boxes.confidence, boxes.image_metadata)
    if mask_format == "rle":
        found.mask = InstancesRLEMasks(size, [mask.encode(np.asfortranarray(shape))["counts"] for shape in shapes])
    if mask_format == "polygon":
        found.polygons = [triangle, *[nothing] * len(boxes)][: len(boxes)]
    return found


def page(metadata: Mapping[str, int]) -> tuple[str, Detections]:
    """Two words in one line of one block, and a word that is in no line."""
    boxes = np.array([[0, 0, 40, 10], [0, 0, 40, 8], [0, 1, 18, 7], [20, 1, 39.5, 7], [1, 20, 9, 28]], np.float32)
    regions = [("two words", -1), ("two words", 0), ("two", 1), ("words", 1), ("alone", -1)]
    more = [{"text": text, "parent": parent} for text, parent in regions]
    kinds, scores = np.array([0, 1, 2, 2, 2], np.int32), np.linspace(0.9, 0.5, 5, dtype=np.float32)
    return "two words\n\nalone", Detections(boxes, kinds, scores, dict(metadata), more)


def regions(metadata: Mapping[str, int]) -> tuple[str, Detections]:
    """A level line and a turned one, neither of which is divided."""
    polygons = [[[1, 1], [30, 1], [30, 9], [1, 9]], [[2, 15], [30, 20], [29, 26], [1, 21]]]
    more = [
        {"text": text, "parent": -1, "polygon": corners}
        for text, corners in zip(("two words", "turned"), polygons, strict=True)
    ]
    boxes = np.array([[1, 1, 30, 9], [1, 15, 30, 26]], np.float32)
    found = Detections(boxes, np.array([1, 1], np.int32), np.array([0.75, 0.5], np.float32), dict(metadata), more)
    return "two words\nturned", found


def vector_of(data: bytes) -> np.ndarray:
    """Any bytes' own float32 ``[1,4]``."""
    return np.random.default_rng(list(data[-64:])).normal(size=(1, 4)).astype(np.float32)


def selected(size: tuple[int, int], settings: Mapping[str, Any]) -> SAMPrediction:
    """Three proposals or one, each the same rectangle of a picture of that (height, width)."""
    from pycocotools import mask

    count = 3 if settings["multimask"] else 1
    logits = np.full((count, 256, 256), -3.0, np.float32)
    logits[:, 100:121, 50:81] = 3
    result = SAMPrediction(
        np.linspace(0.9, 0.5, count, dtype=np.float32), None, None, logits, {"height": size[0], "width": size[1]}
    )
    if settings["mask_format"] == "polygon":
        result.polygons = [np.array([[5, 5], [5, 9], [20, 9]], np.int32)] * count
    else:
        dense = np.zeros(size, np.uint8, order="F")
        dense[5:9, 5:20] = 1
        result.masks = InstancesRLEMasks(size, [mask.encode(dense)["counts"]] * count)
    return result
