"""Shared by all drawings: line widths and letter heights for a picture's size, and blending of panels."""

from __future__ import annotations

import numpy as np

PANEL = (15, 23, 42, 176)  # RGBA
WHITE = (255, 255, 255, 255)


def line_width(canvas: np.ndarray) -> int:
    """Width of lines for a picture of this size, in pixels."""
    return max(1, round(min(canvas.shape[:2]) / 250))


def letter_height(canvas: np.ndarray) -> int:
    """Height of a line of text for a picture of this size, in pixels."""
    return max(9, round(min(canvas.shape[:2]) / 32))


def in_the_corner(canvas: np.ndarray, panel: np.ndarray) -> np.ndarray:
    """``canvas`` (BGR uint8, changed) with ``panel`` (RGBA) blended into its lower left corner, with a small margin."""
    height, width = panel.shape[:2]
    margin = min(3 * line_width(canvas), canvas.shape[0] - height, canvas.shape[1] - width)
    bottom = canvas.shape[0] - margin
    under = canvas[bottom - height : bottom, margin : margin + width]
    under[:] = blended(under, panel)
    return canvas


def blended(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """BGR uint8 ``[h, w, 3]``: ``over`` (RGBA) alpha-blended onto ``under`` (BGR) of the same size."""
    opacity = over[..., 3:] / np.float32(255)
    return np.rint(under * (1 - opacity) + over[..., 2::-1] * opacity).astype(np.uint8)
