"""Boxes of text from the probability map of a DB detector: docTR's post-processing of straight pages.

Constants and arithmetic are those of python-doctr 1.1.0, ``DBPostProcessor`` and ``_remove_padding``.
"""

from __future__ import annotations

import cv2
import numpy as np
import pyclipper

_TEXT = 0.3  # from which probability on a pixel is text
_SURE = 0.1  # mean probability that a region must reach
_SMALLEST = 2  # pixels of the map, either side
_EXPANSION = 1.5  # the network is trained on shrunken regions; they are expanded by this times area over perimeter
_BRUSH = np.ones((3, 3), np.uint8)


def find(probabilities: np.ndarray) -> np.ndarray:
    """Boxes of a map, in the order of their contours.

    Args:
        probabilities: float32 ``[h, w]`` that a pixel is text.

    Returns:
        float64 ``[n, 4]`` corners as fractions of the map's width and height.
    """
    height, width = probabilities.shape
    bitmap = cv2.morphologyEx((probabilities >= _TEXT).astype(np.uint8), cv2.MORPH_OPEN, _BRUSH)
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for contour in contours:
        if np.ptp(contour[:, 0], axis=0).min() < _SMALLEST:
            continue
        x, y, w, h = cv2.boundingRect(contour)
        if probabilities[y : y + h + 1, x : x + w + 1].mean() < _SURE:  # one row and column more, as docTR has it
            continue
        box = _expanded(x, y, w, h)
        if box is None or min(box[2:]) < _SMALLEST:
            continue
        x, y, w, h = box
        boxes.append((x / width, y / height, (x + w) / width, (y + h) / height))
    return np.clip(np.array(boxes, dtype=np.float64).reshape(-1, 4), 0, 1)


def _expanded(x: int, y: int, w: int, h: int) -> tuple[int, int, int, int] | None:
    """The bounding rectangle (left, top, width, height) of a rectangle that grew by round joins."""
    offset = pyclipper.PyclipperOffset()
    offset.AddPath([(x, y), (x, y + h), (x + w, y + h), (x + w, y)], pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    paths = offset.Execute(w * h * _EXPANSION / (2 * (w + h)))
    if not paths:
        return None
    x, y, w, h = cv2.boundingRect(np.array(max(paths, key=len)))
    return x, y, w, h


def unpadded(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fractions of a square that holds a picture in its middle, to fractions of the picture of that size."""
    boxes = boxes.copy()
    if height > width:
        boxes[:, [0, 2]] = (boxes[:, [0, 2]] - 0.5) * height / width + 0.5
    elif width > height:
        boxes[:, [1, 3]] = (boxes[:, [1, 3]] - 0.5) * width / height + 0.5
    return np.clip(boxes, 0, 1)
