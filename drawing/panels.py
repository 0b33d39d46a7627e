"""What drawings share: widths and heights that suit a picture, the colours of panels, and how they are laid over it."""

from __future__ import annotations

import numpy as np

PANEL = (15, 23, 42, 176)  # RGBA
WHITE = (255, 255, 255, 255)


def line_width(canvas: np.ndarray) -> int:
    """Width of a line that is seen and does not hide what it frames, in pixels."""
    return max(1, round(min(canvas.shape[:2]) / 250))


def letter_height(canvas: np.ndarray) -> int:
    """Height of a line of text, in pixels."""
    return max(9, round(min(canvas.shape[:2]) / 32))


def in_the_corner(canvas: np.ndarray, panel: np.ndarray) -> np.ndarray:
    """``canvas`` (BGR uint8, changed) with ``panel`` (RGBA) over its lower left corner, a little from the edges."""
    height, width = panel.shape[:2]
    margin = min(3 * line_width(canvas), canvas.shape[0] - height, canvas.shape[1] - width)
    bottom = canvas.shape[0] - margin
    under = canvas[bottom - height : bottom, margin : margin + width]
    under[:] = blended(under, panel)
    return canvas


def blended(under: np.ndarray, over: np.ndarray) -> np.ndarray:
    """BGR uint8 ``[h, w, 3]``: ``over`` (RGBA) laid over ``under`` (BGR) of the same size."""
    opacity = over[..., 3:] / np.float32(255)
    return np.rint(under * (1 - opacity) + over[..., 2::-1] * opacity).astype(np.uint8)
