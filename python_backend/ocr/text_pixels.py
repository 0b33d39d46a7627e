"""Pixels as docTR's networks read them: resized by torch's antialiased filter and padded; words cut out and split.

Steps and constants are those of python-doctr 1.1.0: ``Resize``, ``extract_crops``, ``extract_rcrops``, ``split_crops``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

_TOO_WIDE = 8  # width over height from which on a word is read in pieces,
_PIECE = 6  # each so many times as wide as high,
OVERLAP = 0.5  # of which so much is in the next one, too
_AT_ONCE = 4  # samples whose products torch's kernel rounds together
_STRIP = 16  # rows that are reckoned at once and stay in the processor's cache


def fit(picture: np.ndarray, height: int, width: int, centred: bool) -> np.ndarray:
    """The picture as large as it fits into ``height`` x ``width`` pixels, its aspect kept, on black.

    Args:
        picture: RGB uint8 ``[h, w, 3]``, at least one pixel.
        centred: in the middle, else in the upper left corner.

    Returns:
        RGB uint8 ``[height, width, 3]``.
    """
    aspect = picture.shape[0] / picture.shape[1]
    if aspect == height / width:
        return _resize(picture, height, width)
    if aspect > height / width:
        size = height, max(int(height / aspect), 1)
    else:
        size = max(int(width * aspect), 1), width
    top, left = (math.ceil((height - size[0]) / 2), math.ceil((width - size[1]) / 2)) if centred else (0, 0)
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + size[0], left : left + size[1]] = _resize(picture, *size)
    return canvas


def _resize(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """``torch.nn.functional.interpolate(..., mode="bilinear", antialias=True)`` of floats, rounded to uint8.

    Pillow's filter is the same but for its weights, which it rounds, and its steps between, which it keeps in 8 bits.
    Where the result is one pixel wide, torch 2.13 repeats its first row; here each row is its own.
    """
    columns = _resize_rows(np.ascontiguousarray(picture.transpose(1, 0, 2)), width)
    rows = _resize_rows(np.ascontiguousarray(columns.transpose(1, 0, 2)), height)
    return np.rint(rows).astype(np.uint8)


def _resize_rows(values: np.ndarray, target: int) -> np.ndarray:
    """Numbers ``[n, m, 3]`` to float32 ``[target, m, 3]``, rounded as torch's kernel for x86-64 does.

    After the first sample it takes four at a time, each product rounded before it is added, and those that are left by
    fused steps. A product of two float32 is exact in float64, so adding there and rounding once is a fused step.
    """
    source = len(values)
    if source == target:
        return values.astype(np.float32)
    first, weights, counts = _filter(source, target)
    by_fours = (counts - 1) // _AT_ONCE * _AT_ONCE  # the last sample of each that is taken so
    found = np.zeros((target, *values.shape[1:]), np.float32)
    for start in range(0, target, _STRIP):
        strip = slice(start, start + _STRIP)
        for k, weight in enumerate(weights):
            rows = values[np.minimum(first[strip] + k, source - 1)]
            rounded = (k <= by_fours[strip])[:, None, None]
            factors, before = weight[strip, None, None], found[strip]
            fused = plain = None
            if not rounded.all():
                fused = (rows * factors.astype(np.float64) + before).astype(np.float32)
            if rounded.any():
                plain = rows.astype(np.float32) * factors + before
            found[strip] = fused if plain is None else plain if fused is None else np.where(rounded, plain, fused)
    return found


def _filter(source: int, target: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first sample that each of ``target`` new ones looks at, int64, the weights of that and the next ones,
    float32 ``[k, target]``, and how many it looks at; in float32 as torch reckons them, since a rounded weight moves
    grey levels.
    """
    scale = np.float32(source) / np.float32(target)
    support = max(scale, np.float32(1))
    centre = (float(scale) * (np.arange(target) + 0.5)).astype(np.float32)
    # a half is added in float64, where that rounds nothing
    first = np.maximum(((centre - support).astype(np.float64) + 0.5).astype(np.int64), 0)
    last = np.minimum(((centre + support).astype(np.float64) + 0.5).astype(np.int64), source)
    steps = np.arange(math.ceil(support) * 2 + 1)[:, None]
    apart = ((first + steps).astype(np.float32) - centre).astype(np.float64) + 0.5
    distance = apart * float(np.float32(1 / float(support)))
    weights = np.where(first + steps < last, np.maximum(1 - np.abs(distance.astype(np.float32)), 0), 0)
    return first, (weights / weights.sum(0)).astype(np.float32), last - first


def crops(picture: np.ndarray, boxes: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """What stands in each box, and which boxes hold a pixel at all.

    Args:
        boxes: float64 ``[n, 4]`` corners as fractions of the picture.

    Returns:
        RGB uint8 crops, and bool ``[n]``: one crop for each True.
    """
    height, width = picture.shape[:2]
    corners = (boxes * (width, height, width, height)).round().astype(int)
    found = [picture[top : bottom + 1, left : right + 1] for left, top, right, bottom in corners]
    kept = np.array([crop.size > 0 for crop in found], dtype=bool)
    return [crop for crop in found if crop.size], kept


def turned_crops(picture: np.ndarray, polygons: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """What stands in each turned box, put upright, and which boxes hold a pixel at all.

    Args:
        polygons: float64 ``[n, 4, 2]``, fractions of the picture, clockwise.

    Returns:
        RGB uint8 crops, and bool ``[n]``: one crop for each True.
    """
    corners = (polygons * picture.shape[1::-1])[:, :3].astype(np.float32)
    found, kept = [], np.zeros(len(polygons), dtype=bool)
    for row, (first, second, third) in enumerate(corners):
        wide, high = np.linalg.norm(first - second), np.linalg.norm(second - third)
        if int(wide) < 1 or int(high) < 1:
            continue
        target = np.array([[0, 0], [wide - 1, 0], [wide - 1, high - 1]], np.float32)
        warp = cv2.getAffineTransform(corners[row], target)
        found.append(cv2.warpAffine(picture, warp, (int(wide), int(high))))
        kept[row] = True
    return found, kept


@dataclass(frozen=True)
class Pieces:
    """A word cut into overlapping pieces, left to right; most words are one piece.

    Attributes:
        overlap: of the last two, as a share of a piece.
    """

    pictures: Sequence[np.ndarray]
    overlap: float = 0.0


def split(crop: np.ndarray) -> Pieces:
    """A word that is too wide for the reader, in pieces."""
    height, width = crop.shape[:2]
    if width / height <= _TOO_WIDE:
        return Pieces([crop])
    wide = height * _PIECE
    starts = list(range(0, width - wide + 1, wide - math.floor(wide * OVERLAP)))
    if starts[-1] + wide < width:
        starts.append(width - wide)
    overlap = starts[-2] + wide - starts[-1] if len(starts) > 1 else 0
    return Pieces([crop[:, start : start + wide] for start in starts], overlap / wide)
