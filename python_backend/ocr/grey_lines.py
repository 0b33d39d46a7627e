"""Lines of text cut out of a grey page, as easyocr's recognisers read them: 64 pixels high, as wide as they are.

Steps and constants are those of easyocr 1.7.2: ``get_image_list``, ``four_point_transform``, ``AlignCollate`` and
``adjust_contrast_grey``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from tritonvision.python_backend.ocr.craft_lines import Upright

HEIGHT = 64
_CONTRAST = 0.5  # below which the second pass stretches it
_LEAST = 10  # grey levels that a spread or a sum is divided by at least


@dataclass(frozen=True)
class Line:
    """A line cut out, and where it stood.

    Attributes:
        corners: float64 ``[4, 2]``, pixels of the page, clockwise from the upper left.
        pixels: grey uint8, 64 high, or 64 wide where the line is higher than wide.
        width: pixels to which it is padded, whole squares.
    """

    corners: np.ndarray
    pixels: np.ndarray
    width: int


def upright(grey: np.ndarray, box: Upright) -> Line | None:
    """What stands in an upright box, None where nothing of it is on the page (uint8 ``[h, w]``)."""
    height, width = grey.shape
    left, top = max(0, box.left), max(0, box.top)
    right, bottom = min(box.right, width), min(box.bottom, height)
    if left >= right or top >= bottom:
        return None
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    return _line(corners, grey[top:bottom, left:right])


def turned(grey: np.ndarray, quad: np.ndarray) -> Line | None:
    """What stands in a turned box, float64 ``[4, 2]``, put upright; None where it is thinner than a pixel."""
    corners = quad.astype(np.float32)
    upper_left, upper_right, lower_right, lower_left = corners
    width = max(int(_length(lower_right - lower_left)), int(_length(upper_right - upper_left)))
    height = max(int(_length(upper_right - lower_right)), int(_length(upper_left - lower_left)))
    if not width or not height:
        return None
    right, bottom = width - 1, height - 1
    target = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)
    warp = cv2.getPerspectiveTransform(corners, target)
    return _line(quad, cv2.warpPerspective(grey, warp, (width, height)))


def _length(step: np.ndarray) -> np.floating:
    return np.sqrt((step**2).sum())


def _line(corners: np.ndarray, pixels: np.ndarray) -> Line:
    """With the shorter side made 64 pixels long, bilinearly."""
    height, width = pixels.shape
    ratio = width / height
    longer = 1 / ratio if ratio < 1 else ratio
    long = int(HEIGHT * longer)
    size = (HEIGHT, long) if ratio < 1 else (long, HEIGHT)
    return Line(corners, cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR), math.ceil(longer) * HEIGHT)


def stretched(pixels: np.ndarray) -> np.ndarray:
    """The same with more contrast, where it has little."""
    high, low = np.percentile(pixels, 90), np.percentile(pixels, 10)
    if (high - low) / max(_LEAST, high + low) >= _CONTRAST:
        return pixels
    return ((pixels.astype(int) - low + 25) * (200.0 / max(_LEAST, high - low))).clip(0, 255).astype(np.uint8)


def padded(pixels: np.ndarray, width: int) -> np.ndarray:
    """64 pixels high and ``width`` wide, the last column repeated at the right: uint8 ``[64, width]``."""
    height, wide = pixels.shape
    wide = min(math.ceil(HEIGHT * (wide / height)), width)
    if (height, wide) != (HEIGHT, pixels.shape[1]):
        pixels = np.asarray(Image.fromarray(pixels).resize((wide, HEIGHT), Image.Resampling.BICUBIC))
    return np.pad(pixels, ((0, 0), (0, width - wide)), mode="edge")
