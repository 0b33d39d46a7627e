"""Prototype masks: boxes as dense boxes have them, and in each box a mask mixed out of prototypes all boxes share.

The masks are those of ultralytics' ``predict(retina_masks=True)``: logits at the size of the prototypes, enlarged to
the picture, positive where the instance is, cut to the box. Enlarging is bilinear and works along one axis at a time,
so for the pixels of a box it is two small matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.python_backend import masks
from tritonvision.python_backend.heads import dense_boxes
from tritonvision.python_backend.resize import Geometry

TASK = tasks.INSTANCE_SEGMENTATION

_STRIDE = 4  # network pixels a cell of the prototypes
_REMEMBERED = 4096  # pixels: of no longer axes the weights are kept, at most 4096 x 320 float32, 5 MB
_TILE = 256  # pixels a side: the logits of a tile stay in a core's cache, and few cells have a part in them


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Candidates of one picture to its instances, best first.

    Args:
        tensors: those of dense boxes, ``coefficients [K,c]`` and ``prototypes [c,h,w]`` float32; a cell of the
            prototypes is 4 network pixels, and the picture lies on whole network pixels.

    Returns:
        ``boxes``, ``scores``, ``class_ids`` of dense boxes, and ``masks`` object ``[n]`` of bytes, one a box in the
        format asked for (see :mod:`tritonvision.python_backend.masks`), or ``[0]`` when none was. Where no logit in the
        box is positive, the mask is empty.
    """
    kept = dense_boxes.survivors(tensors, parameters)
    boxes = dense_boxes.to_picture(tensors["boxes"][kept], geometry)
    encoded = []
    if parameters["mask_format"] != "none":
        rows, columns = axes(tensors["prototypes"].shape[1:], geometry)
        # a pixel belongs to the box when its index does
        for coefficients, box in zip(tensors["coefficients"][kept], np.ceil(boxes).astype(int).tolist(), strict=True):
            patch = decode(coefficients, tensors["prototypes"], rows, columns, box)
            left, top = box[:2]
            encoded.append(masks.encode(patch, left, top, geometry.height, geometry.width, parameters["mask_format"]))
    return {
        "boxes": boxes,
        "scores": tensors["scores"][kept],
        "class_ids": tensors["class_ids"][kept].astype(np.int32),
        "masks": np.array(encoded, dtype=object),
    }


@dataclass(frozen=True)
class Axis:
    """How one axis of the prototypes is enlarged to the picture: twice, if need be.

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
        """What the picture's pixels ``start`` to ``stop`` take of which cells.

        Returns:
            The first cell and float32 ``[stop - start, n]``, the weights of that and the next ``n - 1`` cells.
        """
        if self.length > _REMEMBERED:
            return self.compute(start, stop)
        origin, whole = _whole(self)
        part = whole[start:stop]
        # the later the pixel, the later its cells
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
    """The weights of all pixels of ``axis``: many boxes of a picture, and pictures of one size, share them."""
    return axis.compute(0, axis.length)


def _neighbours(places: np.ndarray, scale: np.float32, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The two samples of ``size`` between which ``places`` of an enlarged axis lie, each with its weight."""
    half = np.float32(0.5)
    source = np.maximum(scale * (places.astype(np.float32) + half) - half, 0)
    lower = np.minimum(source.astype(np.int64), size - 1)
    share = source - lower.astype(np.float32)
    return [(lower, 1 - share), (np.minimum(lower + 1, size - 1), share)]


def axes(cells: tuple[int, int], geometry: Geometry) -> tuple[Axis, Axis]:
    """Rows and columns of prototypes of ``cells`` (height, width) on the picture of ``geometry``."""
    lengths = geometry.height, geometry.width
    offsets = round(geometry.offset_y), round(geometry.offset_x)
    contents = round(geometry.height * geometry.gain_y), round(geometry.width * geometry.gain_x)
    both = list(zip(cells, offsets, contents, lengths, strict=True))
    padding = [_STRIDE * count - content for count, _, content, _ in both]
    # the coarsest grid on which the padding of both axes, and half of it, is whole
    step = math.gcd(_STRIDE, *padding, *(pad // 2 for pad in padding))
    rows, columns = (
        Axis(count, _STRIDE // step, offset // step, content // step, length)
        for count, offset, content, length in both
    )
    return rows, columns


def decode(
    coefficients: np.ndarray, prototypes: np.ndarray, rows: Axis, columns: Axis, box: Sequence[int]
) -> np.ndarray:
    """The mask of one instance on its box, bool ``[y2 - y1, x2 - x1]``.

    Args:
        coefficients: float32 ``[c]``.
        prototypes: float32 ``[c,h,w]``.
        box: x1, y1, x2, y2 in whole picture pixels, the last two exclusive.
    """
    x1, y1, x2, y2 = box
    patch = np.zeros((max(y2 - y1, 0), max(x2 - x1, 0)), dtype=bool)
    if not patch.size:
        return patch
    # tiles of one area: a strip of one pixel by a million has long ones
    across = list(_tiles(columns, x1, x2, max(_TILE, _TILE**2 // len(patch))))
    for start, top, down in _tiles(rows, y1, y2, max(_TILE, _TILE**2 // patch.shape[1])):
        for begin, left, right in across:
            window = prototypes[:, top : top + down.shape[1], left : left + right.shape[1]]
            logits = (coefficients @ window.reshape(len(window), -1)).reshape(window.shape[1:])
            # the larger product is the second; its inner length shall be the shorter side of the window
            logits = down @ (logits @ right.T) if len(logits) <= logits.shape[1] else (down @ logits) @ right.T
            target = patch[start - y1 : start - y1 + len(logits), begin - x1 : begin - x1 + logits.shape[1]]
            np.greater(logits, 0, out=target)
    return patch


def _tiles(axis: Axis, start: int, stop: int, side: int) -> Iterator[tuple[int, int, np.ndarray]]:
    """First pixel, first cell and weights of each tile: small products, however large the box is."""
    for pixel in range(start, stop, side):
        yield pixel, *axis.weights(pixel, min(pixel + side, stop))
