"""Boxes of text from the two maps of CRAFT: easyocr's post-processing, without torch.

Constants and arithmetic, rounding included, are those of easyocr 1.7.2: ``getDetBoxes_core``,
``adjustResultCoordinates`` and ``resize_aspect_ratio``.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

TEXT, LINK = 0, 1  # channels of the maps: that a letter's middle is here, that the middle between two letters is
_LOW_TEXT, _LINKED = 0.4, 0.4  # over which either belongs to a region
_SURE = 0.7  # that the best letter of a region must reach
_SMALLEST = 10  # pixels of the map
_SQUARE = 0.1  # as square as this a region has no direction, and its box is upright
_STRIDE = 32  # of the coarsest layer: the sides of the network's input are multiples of it
_HALVED = 2  # pixels of the input for each of the map


def fit(picture: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """The picture as CRAFT reads it, padded with black at the right and the bottom, and how much smaller it became.

    Args:
        picture: RGB uint8 ``[h, w, 3]``, at least one pixel.
        longest: pixels; a picture with a longer side is made smaller.

    Returns:
        RGB uint8 ``[H, W, 3]``, both multiples of 32, and the factor, at most 1.
    """
    height, width = picture.shape[:2]
    target = min(1.0 * max(height, width), longest)
    factor = target / max(height, width)
    tall, wide = max(int(height * factor), 1), max(int(width * factor), 1)
    if (tall, wide) != (height, width):
        picture = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_LINEAR)
    canvas = np.zeros((*(-(-side // _STRIDE) * _STRIDE for side in (tall, wide)), 3), np.uint8)
    canvas[:tall, :wide] = picture
    return canvas, factor


def find(maps: np.ndarray, factor: float) -> np.ndarray:
    """Boxes of the regions of text, in the order of their labels.

    Args:
        maps: float32 ``[h, w, 2]``, see :data:`TEXT` and :data:`LINK`.
        factor: of :func:`fit`.

    Returns:
        int32 ``[n, 4, 2]``, corners in pixels of the picture, clockwise, the uppermost left one first.
    """
    text, link = np.ascontiguousarray(maps[..., TEXT]), maps[..., LINK]
    lettered, linked = text > _LOW_TEXT, link > _LINKED
    count, labels, facts, _ = cv2.connectedComponentsWithStats((lettered | linked).astype(np.uint8), connectivity=4)
    only_linked = linked & ~lettered
    boxes = []
    for label in range(1, count):
        x, y, w, h, area = (int(value) for value in facts[label])
        if area < _SMALLEST:
            continue
        inside = labels[y : y + h, x : x + w] == label
        if text[y : y + h, x : x + w][inside].max() < _SURE:
            continue
        reach = int(math.sqrt(area * min(w, h) / (w * h)) * 2)
        left, top = max(x - reach, 0), max(y - reach, 0)
        right, bottom = min(x + w + reach + 1, text.shape[1]), min(y + h + reach + 1, text.shape[0])
        region = np.zeros((bottom - top, right - left), np.uint8)
        region[y - top : y - top + h, x - left : x - left + w] = inside
        region[only_linked[top:bottom, left:right]] = 0
        brush = cv2.getStructuringElement(cv2.MORPH_RECT, (1 + reach, 1 + reach))
        rows, columns = np.nonzero(cv2.dilate(region, brush))
        boxes.append(_box(np.stack([columns + left, rows + top], axis=1)))
    found = np.array(boxes, np.float32).reshape(-1, 4, 2)
    scale = 1 / factor * _HALVED
    return (found * np.float64(scale)).astype(np.float32).astype(np.int32)


def _box(points: np.ndarray) -> np.ndarray:
    """The smallest turned rectangle around ``points``, int64 ``[n, 2]``; float32 ``[4, 2]``."""
    box = cv2.boxPoints(cv2.minAreaRect(points.astype(np.int32)))
    sides = np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[1] - box[2])
    if abs(1 - max(sides) / (min(sides) + 1e-5)) <= _SQUARE:
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        box = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
    return np.roll(box, 4 - int(box.sum(axis=1).argmin()), axis=0)
