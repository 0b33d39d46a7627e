"""Regions of a picture: cut out before the resize rule, and the geometry that maps back to the whole picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.images.resize import Geometry


def apply(
    rule: Callable[..., tuple[np.ndarray, Geometry]], picture: np.ndarray, region: Sequence[float] | None,
    options: Mapping[str, Any],
) -> tuple[np.ndarray, Geometry]:  # fmt: skip
    """A resize rule on the whole picture, or on ``region`` (centre x, centre y, width, height, pixels) of it.

    The geometry maps to pixels of the whole picture. Raises InvalidParameter for a region outside the picture.
    """
    if region is None:
        return rule(picture, **options)
    left, top, right, bottom = window(region, *picture.shape[:2])
    pixels, geometry = rule(np.ascontiguousarray(picture[top:bottom, left:right]), **options)
    return pixels, replace(
        geometry,
        width=picture.shape[1],
        height=picture.shape[0],
        offset_x=geometry.offset_x - left * geometry.gain_x,
        offset_y=geometry.offset_y - top * geometry.gain_y,
    )


def window(region: Sequence[float], height: int, width: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom in whole pixels of the part of ``region`` in a picture; at least one pixel a side.

    Raises InvalidParameter.
    """
    x, y, w, h = region
    if not (w > 0 and h > 0):
        raise InvalidParameter("A region must have a width and a height above zero.")
    left, right = _span(x, w, width)
    top, bottom = _span(y, h, height)
    return left, top, right, bottom


def _span(centre: float, length: float, limit: int) -> tuple[int, int]:
    if centre + length / 2 <= 0 or centre - length / 2 >= limit:
        raise InvalidParameter("A region lies outside the picture.")
    first = min(max(round(centre - length / 2), 0), limit - 1)
    return first, max(min(round(centre + length / 2), limit), first + 1)
