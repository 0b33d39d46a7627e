"""Drawing instance masks: each is blended into the picture in its class's colour, with an outline."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from tritonvision.results import InstancesRLEMasks

_GLASS = 0.4  # opacity of the colour
Colour = tuple[int, int, int]


def draw_masks(
    canvas: np.ndarray, masks: InstancesRLEMasks | Sequence[np.ndarray] | None, colours: Sequence[Colour], line: int
) -> np.ndarray:
    """A copy of ``canvas`` with every mask drawn into it, the first ones on top.

    Args:
        canvas: BGR uint8 ``[h, w, 3]``, of the picture's own size.
        masks: run lengths, or outlines int32 ``[n, 2]``, best first; None draws nothing.
        colours: BGR of each mask.
        line: width of the outline, pixels.
    """
    canvas = canvas.copy()
    if masks is None:
        return canvas
    count = len(masks.masks if isinstance(masks, InstancesRLEMasks) else masks)
    for i in reversed(range(count)):
        contours = _contours(masks, i)
        if contours:
            _draw(canvas, contours, colours[i], line)
    return canvas


def _contours(masks: InstancesRLEMasks | Sequence[np.ndarray], i: int) -> Sequence[np.ndarray]:
    """int32 ``[n, 1, 2]`` (x, y) each, including those of holes; none for an empty mask."""
    if not isinstance(masks, InstancesRLEMasks):
        return [masks[i].reshape(-1, 1, 2)] if len(masks[i]) else []
    one = InstancesRLEMasks(masks.image_size, masks.masks[i : i + 1]).to_dense()[0]  # one at a time: they are large
    return cv2.findContours(one.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)[0]


def _draw(canvas: np.ndarray, contours: Sequence[np.ndarray], colour: Colour, line: int) -> None:
    """Blends only the part of ``canvas`` that the contours cover."""
    x, y, width, height = cv2.boundingRect(np.concatenate(contours))
    below = canvas[y : y + height, x : x + width]
    glass = cv2.drawContours(below.copy(), contours, -1, colour, cv2.FILLED, offset=(-x, -y))
    below[:] = cv2.addWeighted(glass, _GLASS, below, 1 - _GLASS, 0)
    cv2.drawContours(canvas, contours, -1, colour, line, cv2.LINE_AA)
