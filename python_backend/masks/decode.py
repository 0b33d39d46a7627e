"""Masks decoded on a box: logits of a few cells enlarged to the pixels of a picture, as torch's interpolate does it.

Enlarging is bilinear and works along one axis at a time, so for the pixels of a box it is two small matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

_REMEMBERED = 4096  # pixels: of no longer axes the weights are kept, at most 4096 x 320 float32, 5 MB
_TILE = 256  # pixels a side: the logits of a tile stay in a core's cache, and depend on few cells


@dataclass(frozen=True)
class Axis:
    """How one axis of the prototypes is interpolated to the picture, in one or two steps.

    ultralytics first makes the prototypes ``factor`` times as large, so that the padding ends between two of them, cuts
    the padding off and enlarges what is left to the picture's size. Both steps are torch's bilinear ``interpolate``.

    Attributes:
        cells: of the prototypes.
        factor: 1, 2 or 4.
        offset, content: where the picture begins and how much of it there is, in cells / ``factor``.
        length: of the picture, pixels.
    """

    cells: int
    factor: int
    offset: int
    content: int
    length: int

    def weights(self, start: int, stop: int) -> tuple[int, np.ndarray]:
        """Interpolation weights of the cells for the picture's pixels ``start`` to ``stop``.

        Returns:
            The first cell and float32 ``[stop - start, n]``, the weights of that and the next ``n - 1`` cells.
        """
        if self.length > _REMEMBERED:
            return self.compute(start, stop)
        origin, whole = _whole(self)
        part = whole[start:stop]
        # cells ascend with pixels
        first, last = np.flatnonzero(part[0])[0], np.flatnonzero(part[-1])[-1]
        return origin + int(first), part[:, first : last + 1]

    def compute(self, start: int, stop: int) -> tuple[int, np.ndarray]:
        """:meth:`weights`, from the beginning."""
        scale = np.float32(self.content) / np.float32(self.length)  # in float32, as torch has it
        pixels = np.arange(start, stop)
        parts = [
            (cell, weight * share)
            for between, weight in _neighbours(pixels, scale, self.content)
            for cell, share in _neighbours(between + self.offset, np.float32(1 / self.factor), self.cells)
        ]
        first, last = parts[0][0][0], parts[-1][0][-1]  # lower neighbours come first
        matrix = np.zeros((len(pixels), last + 1 - first), dtype=np.float32)
        for cell, weight in parts:
            matrix[pixels - start, cell - first] += weight
        return int(first), matrix


@lru_cache(maxsize=4)
def _whole(axis: Axis) -> tuple[int, np.ndarray]:
    """The weights of all pixels of ``axis``, cached for all boxes and for pictures of one size."""
    return axis.compute(0, axis.length)


def _neighbours(places: np.ndarray, scale: np.float32, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two samples of ``size`` between which ``places`` of an enlarged axis lie, each with its weight."""
    half = np.float32(0.5)
    source = np.maximum(scale * (places.astype(np.float32) + half) - half, 0)
    lower = np.minimum(source.astype(np.int64), size - 1)
    share: np.ndarray = source - lower.astype(np.float32)
    return [(lower, 1 - share), (np.minimum(lower + 1, size - 1), share)]


def decode(
    coefficients: np.ndarray, prototypes: np.ndarray, rows: Axis, columns: Axis, box: Sequence[int], level: float = 0.0
) -> np.ndarray:
    """The mask of one instance on its box, bool ``[y2 - y1, x2 - x1]``.

    Args:
        coefficients: float32 ``[c]``.
        prototypes: float32 ``[c,h,w]``.
        box: x1, y1, x2, y2 in whole picture pixels, the last two exclusive.
        level: logits over it belong to the mask.
    """
    x1, y1, x2, y2 = box
    patch = np.zeros((max(y2 - y1, 0), max(x2 - x1, 0)), dtype=bool)
    for start, begin, logits in _enlarged(coefficients, prototypes, rows, columns, box):
        target = patch[start - y1 : start - y1 + len(logits), begin - x1 : begin - x1 + logits.shape[1]]
        np.greater(logits, level, out=target)
    return patch


def areas(
    coefficients: np.ndarray, prototypes: np.ndarray, rows: Axis, columns: Axis, box: Sequence[int],
    levels: Sequence[float],
) -> list[int]:  # fmt: skip
    """How many pixels of the box have a logit over each of ``levels``; arguments as for :func:`decode`."""
    counts = [0] * len(levels)
    for _, _, logits in _enlarged(coefficients, prototypes, rows, columns, box):
        for i, level in enumerate(levels):
            counts[i] += np.count_nonzero(logits > level)
    return counts


def _enlarged(
    coefficients: np.ndarray, prototypes: np.ndarray, rows: Axis, columns: Axis, box: Sequence[int]
) -> Iterator[tuple[int, int, np.ndarray]]:
    """The logits of the box's pixels, tile by tile: upper and left pixel, and float32 ``[h,w]``."""
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return
    # tiles of one area: a strip of one pixel by a million has long ones
    across = list(_tiles(columns, x1, x2, max(_TILE, _TILE**2 // (y2 - y1))))
    for start, top, down in _tiles(rows, y1, y2, max(_TILE, _TILE**2 // (x2 - x1))):
        for begin, left, right in across:
            window = prototypes[:, top : top + down.shape[1], left : left + right.shape[1]]
            logits = (coefficients @ window.reshape(len(window), -1)).reshape(window.shape[1:])
            # the second product is the larger one; make its inner length the shorter side of the window
            logits = down @ (logits @ right.T) if len(logits) <= logits.shape[1] else (down @ logits) @ right.T
            yield start, begin, logits


def _tiles(axis: Axis, start: int, stop: int, side: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """First pixel, first cell and weights of each tile: small products, however large the box is."""
    for pixel in range(start, stop, side):
        yield pixel, *axis.weights(pixel, min(pixel + side, stop))
