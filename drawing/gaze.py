"""Drawing gaze directions: for each face a thin box, an arrow from its centre, and the angles beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import supervision as sv

from tritonvision.drawing.panels import letter_height, line_width
from tritonvision.results import Detections, L2CSGazeDetection

_ARROW = sv.Color.from_hex("#facc15")
_BOX = sv.Color.from_hex("#2563eb")
_HEAD = 0.22  # of the arrow's length
_SUBPIXEL = 4  # fractional bits of coordinates, so that ends of arrows are not rounded to whole pixels


def draw_gaze(canvas: np.ndarray, faces: Detections, gaze: L2CSGazeDetection) -> np.ndarray:
    """A copy of ``canvas`` (BGR uint8 ``[h, w, 3]``) with every face and the direction of its gaze drawn in."""
    canvas = canvas.copy()
    if not len(faces):
        return canvas
    line, letters = line_width(canvas), letter_height(canvas)
    boxes = faces.to_supervision()
    canvas = sv.BoxAnnotator(_BOX, max(1, line // 2), sv.ColorLookup.INDEX).annotate(canvas, boxes)
    for box, yaw, pitch in zip(faces.xyxy, gaze.yaw, gaze.pitch, strict=True):
        _arrow(canvas, *ends(box, float(yaw), float(pitch)), 2 * line)
    return sv.RichLabelAnnotator(
        _BOX, font_size=letters, text_padding=max(2, letters // 4), color_lookup=sv.ColorLookup.INDEX,
        smart_position=len(faces) < 50,
    ).annotate(canvas, boxes, list(_angles(gaze)))  # fmt: skip


def ends(box: np.ndarray, yaw: float, pitch: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Start and end of a face's arrow, in pixels: a 3D line as long as the face, projected onto the picture's plane.

    A positive yaw looks to the picture's left, a positive pitch up, as in Gaze360: the direction of (yaw, pitch) is
    ``(-cos(pitch) sin(yaw), -sin(pitch))`` right and down. A gaze into the camera gives a dot instead of an arrow.

    Args:
        box: float ``[4]`` corners.
        yaw, pitch: radians.
    """
    x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    length = float(max(box[2] - box[0], box[3] - box[1]))
    return (x, y), (x - length * math.cos(pitch) * math.sin(yaw), y - length * math.sin(pitch))


def _arrow(canvas: np.ndarray, start: tuple[float, float], end: tuple[float, float], width: int) -> None:
    """A yellow arrow with a dark outline, and a dot at its start."""
    first, last = (tuple(round(v * (1 << _SUBPIXEL)) for v in point) for point in (start, end))
    for colour, more in ((sv.Color.BLACK, max(2, width // 2)), (_ARROW, 0)):
        radius = (2 * width + more) << _SUBPIXEL >> 1
        cv2.circle(canvas, first, radius, colour.as_bgr(), -1, cv2.LINE_AA, _SUBPIXEL)
        if math.dist(start, end) > 3 * width:  # a shorter arrow would be hidden by the dot
            cv2.arrowedLine(canvas, first, last, colour.as_bgr(), width + more, cv2.LINE_AA, _SUBPIXEL, _HEAD)


def _angles(gaze: L2CSGazeDetection) -> Sequence[str]:
    degrees = np.rint(np.degrees(np.stack([gaze.yaw, gaze.pitch], axis=1))).astype(int)
    return [f"yaw {yaw:+d}°, pitch {pitch:+d}°" for yaw, pitch in degrees]
