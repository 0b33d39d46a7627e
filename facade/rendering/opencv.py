"""What the dialects need OpenCV for. It is imported with the first use: most servers have none, and it takes 15 MB."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np


def outlines(mask: np.ndarray) -> Sequence[np.ndarray]:
    """The outer contour of each part of a bool mask ``[h,w]``: int ``[n,2]``, (x, y) pixels."""
    import cv2

    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.reshape(-1, 2) for contour in contours]


def png(pixels: np.ndarray) -> str:
    """Base64 of a PNG of BGR or grey pixels, uint8 or uint16."""
    return _encoded(".png", pixels)


def jpeg(pixels: np.ndarray, quality: int) -> str:
    """Base64 of a JPEG of BGR or grey pixels, uint8, in a ``quality`` from 0 to 100."""
    import cv2

    return _encoded(".jpg", pixels, cv2.IMWRITE_JPEG_QUALITY, quality)


def _encoded(suffix: str, pixels: np.ndarray, *options: int) -> str:
    import cv2

    _, data = cv2.imencode(suffix, pixels, options)
    return base64.b64encode(data.tobytes()).decode()
