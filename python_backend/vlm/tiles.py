"""Pictures cut into square tiles whose arrangement is nearest to their shape, as InternVL began and NVILA follows.

A picture is stretched to whole tiles, cut, and given once more as a whole, unless it is one tile. ``InternVLProcessor``
(transformers 5.23) and VILA's ``dynamic_preprocess`` to the bit.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image


@functools.cache
def _arrangements(least: int, most: int) -> tuple[tuple[int, int], ...]:
    """(columns, rows) of ``least`` to ``most`` tiles, fewest first."""
    sides = range(1, most + 1)
    found = [(columns, rows) for columns in sides for rows in sides if least <= columns * rows <= most]
    return tuple(sorted(found, key=lambda arrangement: arrangement[0] * arrangement[1]))


def grid(height: int, width: int, tile: int, least: int, most: int) -> tuple[int, int]:
    """(rows, columns) of a picture of that size.

    Of several arrangements that are equally near to its shape, it is the largest of which the picture fills more than
    half.
    """
    shape, area = width / height, width * height
    best, nearest = (1, 1), float("inf")
    for columns, rows in _arrangements(least, most):
        away = abs(shape - columns / rows)
        if away < nearest or (away == nearest and area > 0.5 * tile * tile * columns * rows):
            best, nearest = (rows, columns), away
    return best


def count(rows: int, columns: int) -> int:
    """Tiles of such a picture, the whole of it included."""
    return rows * columns + (rows * columns > 1)


def stretched(picture: np.ndarray, tile: int, rows: int, columns: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to uint8 ``[rows x columns, tile, tile, 3]``, row by row."""
    size = columns * tile, rows * tile
    pixels = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))
    return pixels.reshape(rows, tile, columns, tile, 3).swapaxes(1, 2).reshape(-1, tile, tile, 3)


def cut(picture: np.ndarray, tile: int, rows: int, columns: int) -> np.ndarray:
    """RGB uint8 ``[h,w,3]`` to uint8 ``[count(rows, columns), tile, tile, 3]``: row by row, the whole picture last."""
    tiles = stretched(picture, tile, rows, columns)
    return tiles if len(tiles) == 1 else np.concatenate([tiles, stretched(picture, tile, 1, 1)])
