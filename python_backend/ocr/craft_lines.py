"""Regions of text joined to lines: those that lie flat by their rows, the turned ones each by itself.

Constants and arithmetic, rounding included, are those of easyocr 1.7.2: ``group_text_box`` as ``Reader.detect`` calls
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_FLAT = 0.1  # slope of both long sides below which a region is level
_ROW = 0.5  # of the mean height: how far the middle of a region may be from those of its row
_HEIGHT = 0.5  # of the mean height: by how much the heights of neighbours may differ
_GAP = 0.5  # of a region's height: the gap to the region before it that does not part them
_MARGIN = 0.1  # of the smaller side, added on each side
_TURNED_MARGIN = 1.44  # times as much for a turned one
_SMALLEST = 20  # pixels that the longer side must exceed
_STEEP = 10  # pixels: the least difference that a slope is divided by


class Upright(NamedTuple):
    """An upright box in whole pixels; it may reach beyond the picture."""

    left: int
    right: int
    top: int
    bottom: int

    @property
    def middle(self) -> float:
        """Half way down."""
        return 0.5 * (self.top + self.bottom)

    @property
    def height(self) -> int:
        """Pixels."""
        return self.bottom - self.top


def group(quads: np.ndarray) -> tuple[list[Upright], list[np.ndarray]]:
    """Lines of text.

    Args:
        quads: int32 ``[n, 4, 2]``, corners in pixels, clockwise from the upper left one.

    Returns:
        Upright boxes, row by row and from left to right; and turned ones, float64 ``[4, 2]``, in their order.
    """
    level, turned = [], []
    for quad in quads:
        if _slope(quad) < _FLAT:
            (left, top), (right, bottom) = quad.min(axis=0).tolist(), quad.max(axis=0).tolist()
            level.append(Upright(left, right, top, bottom))
        else:
            turned.append(_widened(quad))
    lines = [line for row in _rows(level) for line in _merged(row)]
    return [line for line in lines if max(line.right - line.left, line.height) > _SMALLEST], [
        quad for quad in turned if max(np.ptp(quad, axis=0)) > _SMALLEST
    ]


def _slope(quad: np.ndarray) -> float:
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad.tolist()
    return max(abs((y1 - y0) / max(_STEEP, x1 - x0)), abs((y2 - y3) / max(_STEEP, x2 - x3)))


def _widened(quad: np.ndarray) -> np.ndarray:
    """A turned box with its margin, along both diagonals."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad.tolist()
    height, width = np.linalg.norm([x3 - x0, y3 - y0]), np.linalg.norm([x1 - x0, y1 - y0])
    margin = int(_TURNED_MARGIN * _MARGIN * min(width, height))
    falling = abs(np.arctan((y0 - y2) / max(_STEEP, x0 - x2)))
    rising = abs(np.arctan((y1 - y3) / max(_STEEP, x1 - x3)))
    along = np.array([
        [-np.cos(falling), -np.sin(falling)], [np.cos(rising), -np.sin(rising)],
        [np.cos(falling), np.sin(falling)], [-np.cos(rising), np.sin(rising)],
    ])  # fmt: skip
    return quad + along * margin


def _rows(boxes: Sequence[Upright]) -> list[list[Upright]]:
    """Boxes whose middles are about equally high, from top to bottom."""
    rows: list[list[Upright]] = []
    for box in sorted(boxes, key=lambda box: box.middle):
        if rows:
            middle, height = (np.mean([getattr(one, name) for one in rows[-1]]) for name in ("middle", "height"))
            if abs(middle - box.middle) < _ROW * height:
                rows[-1].append(box)
                continue
        rows.append([box])
    return rows


def _merged(row: Sequence[Upright]) -> list[Upright]:
    """A row from left to right, neighbours of about one height joined, with their margin."""
    parts: list[list[Upright]] = []
    for box in sorted(row, key=lambda box: box.left):
        if parts:
            height, before = np.mean([one.height for one in parts[-1]]), parts[-1][-1].right
            if abs(height - box.height) < _HEIGHT * height and box.left - before < _GAP * box.height:
                parts[-1].append(box)
                continue
        parts.append([box])
    return [_around(part) for part in parts]


def _around(boxes: Sequence[Upright]) -> Upright:
    left, top = min(box.left for box in boxes), min(box.top for box in boxes)
    right, bottom = max(box.right for box in boxes), max(box.bottom for box in boxes)
    margin = int(_MARGIN * min(right - left, bottom - top))
    return Upright(left - margin, right + margin, top - margin, bottom + margin)
