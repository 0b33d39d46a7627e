"""Depth maps in colours (Viridis, whose brightness grows evenly from far to near), with a colour bar."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tritonvision.drawing.panels import PANEL, WHITE, in_the_corner, letter_height, line_width
from tritonvision.results import DepthMap

_FAR, _NEAR = "far", "near"


def draw_depth(canvas: np.ndarray, depth: DepthMap) -> np.ndarray:
    """The depth map in colours instead of the picture, with a colour bar from far to near in the lower left corner.

    Args:
        canvas: the picture, BGR uint8 ``[h, w, 3]``, of the map's size.
    """
    drawn = colours(depth.nearness())
    height, width = canvas.shape[:2]
    if drawn.shape != canvas.shape:
        drawn = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_NEAREST)
    bar, margin = _bar(letter_height(canvas)), 3 * line_width(canvas)
    if bar.height + 2 * margin > height / 2 or bar.width + 2 * margin > width:
        return drawn  # it would cover too much of the map
    return in_the_corner(drawn, np.asarray(bar))


def colours(nearness: np.ndarray) -> np.ndarray:
    """BGR uint8 ``[h, w, 3]`` of ``[h, w]`` values in 0..1: dark violet is far, bright yellow is near."""
    return cv2.applyColorMap(np.rint(nearness * 255).astype(np.uint8), cv2.COLORMAP_VIRIDIS)


def _bar(letters: int) -> Image.Image:
    """RGBA panel with ``far``, the colours and ``near`` in a row; ``size`` is the height of letters in pixels."""
    font = ImageFont.load_default(letters)
    pad, length, thick = round(letters * 0.8), 10 * letters, max(3, round(letters * 0.6))
    left = pad + round(font.getlength(_FAR)) + pad // 2
    right = left + length + pad // 2
    panel = Image.new("RGBA", (right + round(font.getlength(_NEAR)) + pad, letters + 2 * pad), PANEL)
    middle = panel.height // 2
    pen = ImageDraw.Draw(panel)
    pen.text((pad, middle), _FAR, font=font, fill=WHITE, anchor="lm")
    pen.text((right, middle), _NEAR, font=font, fill=WHITE, anchor="lm")
    scale = colours(np.tile(np.linspace(0, 1, length, dtype=np.float32), (thick, 1)))
    panel.paste(Image.fromarray(np.ascontiguousarray(scale[..., ::-1])), (left, middle - thick // 2))
    return panel
