"""Words that stand at an angle: the angle of a page, its words put upright, and boxes around turned ones.

Arithmetic and constants are those of python-doctr 1.1.0: ``DocumentBuilder._sort_boxes``,
``deskew_reading_geometries``, ``resolve_enclosing_rbbox`` and ``order_points``.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

_LEAST = 1.0  # degrees below which a page counts as upright
_MOST = 45  # degrees from which on it is not known which corner is which
_SCALE = 1024  # pixels of the page that a box is fitted on


def ordered(corners: np.ndarray) -> np.ndarray:
    """``[4, 2]`` clockwise, from the corner that is nearest to the upper left."""
    middle = corners.mean(axis=0)
    corners = corners[np.argsort(np.arctan2(corners[:, 1] - middle[1], corners[:, 0] - middle[0]))]
    return np.roll(corners, -int(np.argmin(corners.sum(axis=1))), axis=0)


def around(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """The smallest turned box around all of them, float32 ``[4, 2]``, all as fractions of the page."""
    cloud = np.concatenate([np.asarray(polygon, np.float64) for polygon in polygons])
    return ordered(cv2.boxPoints(cv2.minAreaRect(cloud.astype(np.float32) * _SCALE)) / _SCALE)


def angle_of(polygons: np.ndarray) -> float:
    """The median angle of words, in degrees counter-clockwise.

    Args:
        polygons: ``[n, 4, 2]``, pixels, clockwise from the upper left of each text.
    """
    left, right = polygons[:, 0] + polygons[:, 3], polygons[:, 1] + polygons[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        angles = np.arctan((left[:, 1] - right[:, 1]) / (right[:, 0] - left[:, 0])) * 180 / np.pi
    angles = angles[np.isfinite(angles)]
    return float(np.median(angles)) if angles.size else 0.0


def upright(polygons: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Upright boxes of words after their page was turned so that they are level.

    Args:
        polygons: float64 ``[n, 4, 2]``, fractions of the page.
        shape: height and width of the page.

    Returns:
        float64 ``[n, 4]`` corners, fractions of the page.
    """
    height, width = shape
    scale = np.array([width, height], polygons.dtype)
    angle = angle_of(polygons * scale)
    level = polygons.copy()
    if _LEAST <= abs(angle) <= 90 - _LEAST:
        turn = -angle * np.pi / 180.0
        matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]], polygons.dtype)
        centre = (width / 2, height / 2)
        level = (centre + np.matmul(polygons * scale - centre, matrix)) / scale
    if abs(angle) >= _LEAST:  # a box that is not turned itself is moved, not turned
        edges = (polygons[:, 1] - polygons[:, 0]) * scale
        own = np.abs(np.rad2deg(np.arctan2(-edges[:, 1], edges[:, 0]))) < abs(angle) / 2
        middles, moved = (each.mean(axis=1, keepdims=True) for each in (polygons, level))
        level[own] = polygons[own] - middles[own] + moved[own]
    return _upright(level)


def deskewed(lines: np.ndarray, words: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Lines of a page put level by the angle of its words, and what remains by the angle of the lines themselves; for
    the order of reading once more, as docTR does it.

    Args:
        lines: ``[n, 4, 2]``, fractions of the page.
        words: ``[m, 4, 2]``, clockwise from the upper left of each text.
        shape: height and width of the page.

    Returns:
        float64 ``[n, 4]`` corners of the upright boxes around them: for distances, and for the order.
    """
    lines, scale = lines.astype(np.float64), np.array([shape[1], shape[0]], np.float64)
    lines = _levelled(lines, angle_of(words * scale), scale)
    apart = _levelled_by_themselves(lines)
    in_order = _levelled_by_themselves(apart)
    return _upright(apart), _upright(in_order)


def _levelled_by_themselves(lines: np.ndarray) -> np.ndarray:
    return _levelled(lines, angle_of(np.stack([ordered(line) for line in lines])), np.ones(2))


def _upright(polygons: np.ndarray) -> np.ndarray:
    return np.concatenate((polygons.min(1), polygons.max(1)), -1)


def _levelled(lines: np.ndarray, angle: float, scale: np.ndarray) -> np.ndarray:
    if not _LEAST <= abs(angle) < _MOST:
        return lines
    turn = np.deg2rad(angle)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    centre = (lines.reshape(-1, 2) * scale).mean(axis=0)
    return ((lines * scale - centre) @ matrix.T + centre) / scale
