"""Boxes of text from the probability map of a DB detector: docTR's post-processing of straight and of turned pages.

Constants and arithmetic are those of python-doctr 1.1.0, ``DBPostProcessor`` and ``_remove_padding``.
"""

from __future__ import annotations

import cv2
import numpy as np
import pyclipper

from tritonvision.python_backend.ocr.turned import ordered

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
    boxes = []
    for contour in _contours(probabilities):
        x, y, w, h = cv2.boundingRect(contour)
        if probabilities[y : y + h + 1, x : x + w + 1].mean() < _SURE:  # one row and column more, as docTR has it
            continue
        box = _expanded(x, y, w, h)
        if box is None or min(box[2:]) < _SMALLEST:
            continue
        x, y, w, h = box
        boxes.append((x / width, y / height, (x + w) / width, (y + h) / height))
    return np.clip(np.array(boxes, dtype=np.float64).reshape(-1, 4), 0, 1)


def find_turned(probabilities: np.ndarray) -> np.ndarray:
    """Turned boxes of a map, in the order of their contours.

    Args:
        probabilities: float32 ``[h, w]`` that a pixel is text.

    Returns:
        float64 ``[n, 4, 2]``, fractions of the map, clockwise from the corner that is nearest to the upper left.
    """
    height, width = probabilities.shape
    boxes = []
    for contour in _contours(probabilities):
        points = contour[:, 0]
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        inside = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
        cv2.fillPoly(inside, [points - (left, top)], (1,))
        if probabilities[top : bottom + 1, left : right + 1][inside.astype(bool)].mean() < _SURE:
            continue
        box = _expanded_turned(points)
        if box is not None and np.linalg.norm(box[2] - box[0]) >= _SMALLEST:
            box[:, 0] /= width
            box[:, 1] /= height
            boxes.append(box)
    return np.clip(np.array(boxes, dtype=np.float64).reshape(-1, 4, 2), 0, 1)


def _contours(probabilities: np.ndarray) -> list[np.ndarray]:
    """Outlines of regions of text, int32 ``[n, 1, 2]``, without the smallest."""
    bitmap = cv2.morphologyEx((probabilities >= _TEXT).astype(np.uint8), cv2.MORPH_OPEN, _BRUSH)
    contours, _ = cv2.findContours(bitmap, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour for contour in contours if np.ptp(contour[:, 0], axis=0).min() >= _SMALLEST]


def _expanded_turned(points: np.ndarray) -> np.ndarray | None:
    """The turned box, float32 ``[4, 2]``, around the turned box of ``points`` that grew by round joins."""
    box = cv2.minAreaRect(points)
    width, height = box[1]
    area, length = (width + 1) * (1 + height), 2 * (width + height) + 2  # a pixel more, as docTR has it
    offset = pyclipper.PyclipperOffset()
    offset.AddPath(cv2.boxPoints(box), pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    paths = offset.Execute(area * _EXPANSION / length)
    return ordered(cv2.boxPoints(cv2.minAreaRect(np.array(max(paths, key=len))))) if paths else None


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
    """Fractions of a square that holds a picture in its middle, to fractions of the picture of that size.

    Args:
        boxes: ``[n, 4]`` corners, or ``[n, 4, 2]``.
    """
    points = boxes.copy().reshape(len(boxes), boxes[:1].size // 2 or 2, 2)
    if height > width:
        points[..., 0] = (points[..., 0] - 0.5) * height / width + 0.5
    elif width > height:
        points[..., 1] = (points[..., 1] - 0.5) * width / height + 0.5
    return np.clip(points.reshape(boxes.shape), 0, 1)
