"""Dense map: one number a pixel, enlarged to the picture's size and sent as 16 bits over its own range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry

TASK = tasks.DEPTH_ESTIMATION
_LEVELS = 65535  # steps between the lowest and the highest value of a map: a step is 1.5e-5 of the range


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The map of one picture at the picture's size.

    Bicubic without antialiasing whether it grows or shrinks, as the authors' post-processing does it with torch's
    ``interpolate``; OpenCV's is the same to 1e-4 of the largest value, on pure noise, and thrice as quick.

    Args:
        tensors: ``map [H,W]`` float32 at the network's size; it covers the whole picture.

    Returns:
        ``map`` uint16 ``[h,w]`` and ``range`` float32 ``[2]`` (lo, hi): value = lo + map * (hi - lo) / 65535. A map
        of one value is zeros with lo = hi.
    """
    source, size = np.ascontiguousarray(tensors["map"]), (geometry.width, geometry.height)
    if source.min() == source.max():  # rounding errors of the interpolation would look like depth
        return {"map": np.zeros(size[::-1], dtype=np.uint16), "range": np.repeat(source[0, 0], 2)}
    values: np.ndarray = cv2.resize(source, size, interpolation=cv2.INTER_CUBIC)
    low, high = float(values.min()), float(values.max())
    if high > low:  # a picture of one pixel has one value
        # in place: a picture of 50 million pixels is a map of 200 MB
        values -= np.float32(low)
        values *= np.float32(_LEVELS / (high - low))
        np.rint(values, out=values).clip(0, _LEVELS, out=values)
    else:
        values[:] = 0
    return {"map": values.astype(np.uint16), "range": np.array([low, high], dtype=np.float32)}
