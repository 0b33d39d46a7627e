"""Drawing results: boxes with class names, masks, key points with a legend, the best classes on a panel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import supervision as sv
from PIL import Image, ImageDraw

from tritonvision.drawing.depth import draw_depth
from tritonvision.drawing.gaze import draw_gaze
from tritonvision.drawing.masks import draw_masks
from tritonvision.drawing.panels import PANEL, WHITE, in_the_corner, letter_height, line_width
from tritonvision.drawing.text import draw_line, draw_page
from tritonvision.drawing.typefaces import Typeface, legible
from tritonvision.results import (
    ClassificationPrediction,
    DepthMap,
    Detections,
    InstanceDetections,
    KeyPoints,
    MultiLabelClassificationPrediction,
    Result,
    SAMPrediction,
)

# Colours that differ clearly on photographs and on which white letters can be read.
_BOXES = sv.ColorPalette.from_hex([
    "#2563eb", "#dc2626", "#059669", "#c026d3", "#b45309", "#0e7490", "#7c3aed", "#be123c", "#4d7c0f", "#475569",
])  # fmt: skip
_POINTS = sv.ColorPalette.from_hex([
    "#facc15", "#22d3ee", "#fb7185", "#4ade80", "#fb923c", "#c084fc", "#a3e635", "#60a5fa", "#f472b6", "#e2e8f0",
])  # fmt: skip
_TRACK = (255, 255, 255, 56)
_BEST_CLASSES = 5
_SURE = 0.3  # key points with a lower confidence are not drawn


@dataclass(frozen=True)
class _Row:
    """One row of a panel: a coloured dot and a name; with a ``share`` in 0..1, also a bar and the number."""

    colour: sv.Color
    name: str
    share: float | None = None


def draw(
    picture: np.ndarray, result: Result, labels: Sequence[str], keypoint_labels: Sequence[str] = (), *,
    line: int | None = None, names: bool = True, ids: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """A copy of ``picture`` with ``result`` drawn into it; lines and letters are sized for the picture. For an
    embedding nothing is drawn; a line of text is drawn on a panel that is added below the picture.

    Args:
        picture: BGR uint8 ``[h, w, 3]``, oriented as the result's coordinates are.
        labels: class names by class id; a name with letters that no typeface has is drawn as its class id.
        keypoint_labels: names of the key points, in order, for the legend.
        line: width of the lines of boxes and masks, pixels; None for one that depends on the picture's size.
        names: whether the names of boxes and key points are drawn.
        ids: (n,) of the boxes of tracked objects, drawn behind their names; a colour then means an object, not a class.
            Boxes of a negative id have none.
    """
    canvas = picture.copy()
    line = line or line_width(canvas)
    if isinstance(result, str):
        return draw_line(canvas, result)
    if isinstance(result, tuple) and isinstance(result[0], str):
        return draw_page(canvas, *result)
    if isinstance(result, ClassificationPrediction):
        return _classes(canvas, result.confidence[0], labels)
    if isinstance(result, MultiLabelClassificationPrediction):
        return _classes(canvas, result.confidence, labels)
    if isinstance(result, DepthMap):
        return draw_depth(canvas, result)
    if isinstance(result, SAMPrediction):
        best = int(result.scores.argmax())
        one = result.masks.only(best) if result.masks is not None else (result.polygons or [])[best : best + 1]
        return draw_masks(canvas, one, [_BOXES.by_idx(0).as_bgr()], line)
    if isinstance(result, tuple) and len(result) == 3:
        return draw_gaze(canvas, *result[1:])
    if not isinstance(result, Detections | tuple):
        return canvas
    points, detections = result if isinstance(result, tuple) else (None, result)
    if len(detections) == 0:
        return canvas
    if isinstance(detections, InstanceDetections):
        colours = [_BOXES.by_idx(int(i)).as_bgr() for i in _colours(detections, ids)]
        shapes = detections.polygons if detections.mask is None else detections.mask
        canvas = draw_masks(canvas, shapes, colours, line)
    canvas = _boxes(canvas, detections, labels, line, names, ids)
    return canvas if points is None else _points(canvas, points, detections, keypoint_labels if names else ())


def _colours(detections: Detections, ids: np.ndarray | None) -> np.ndarray:
    """(n,) places in the palette: of its id, or else of its class."""
    return detections.class_id if ids is None else np.where(ids >= 0, ids, detections.class_id)


def _boxes(
    canvas: np.ndarray, detections: Detections, labels: Sequence[str], line: int, named: bool, ids: np.ndarray | None
) -> np.ndarray:  # fmt: skip
    boxes = Detections.to_supervision(detections)  # without masks, which are large
    colours = _colours(detections, ids)
    canvas = sv.BoxAnnotator(color=_BOXES, thickness=line).annotate(canvas, boxes, custom_color_lookup=colours)
    for (left, top, right, bottom), colour in zip(detections.xyxy.tolist(), colours.tolist(), strict=True):
        if (left, top) == (right, bottom):  # a place that is a point
            canvas = _dot(canvas, sv.Point(left, top), 3 * line, _BOXES.by_idx(colour))
    if not named:
        return canvas
    letters = letter_height(canvas)
    typeface, shown = legible({int(i): labels[i] for i in np.unique(detections.class_id)})
    marks = [f" #{i}" if i >= 0 else "" for i in (np.full(len(boxes), -1) if ids is None else ids).tolist()]
    names = [
        f"{shown[int(i)]}{mark} {score:.2f}"
        for i, mark, score in zip(detections.class_id, marks, detections.confidence, strict=True)
    ]
    return sv.RichLabelAnnotator(
        color=_BOXES, font_path=typeface.path, font_size=letters, text_padding=max(2, letters // 4),
        smart_position=len(detections) < 50,
    ).annotate(canvas, boxes, names, custom_color_lookup=colours)  # fmt: skip


def _points(canvas: np.ndarray, points: KeyPoints, detections: Detections, names: Sequence[str]) -> np.ndarray:
    for i, xyxy in enumerate(detections.xyxy):
        # small compared with the instance, at every picture size
        radius = max(2, round(min(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1], 12 * letter_height(canvas)) / 32))
        for k, (x, y) in enumerate(points.xy[i]):
            if points.confidence[i, k] >= _SURE:
                canvas = _dot(canvas, sv.Point(float(x), float(y)), radius, _POINTS.by_idx(k))
    typeface, shown = legible(dict(enumerate(names)))
    rows = [_Row(_POINTS.by_idx(k), name) for k, name in shown.items()]
    return _panel(canvas, rows, typeface) if rows else canvas


def _dot(canvas: np.ndarray, centre: sv.Point, radius: int, colour: sv.Color) -> np.ndarray:
    """A disc with a black rim."""
    canvas = _disc(canvas, centre, radius + max(1, radius // 3), sv.Color.BLACK)
    return _disc(canvas, centre, radius, colour)


def _disc(canvas: np.ndarray, centre: sv.Point, radius: int, colour: sv.Color) -> np.ndarray:
    import cv2

    # coordinates in sixteenths of a pixel, so that points are not rounded to whole pixels
    place = (round(centre.x * 16), round(centre.y * 16))
    return cv2.circle(canvas, place, radius * 16, colour.as_bgr(), -1, cv2.LINE_AA, 4)


def _classes(canvas: np.ndarray, scores: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    best = np.argsort(-scores, kind="stable")[:_BEST_CLASSES]
    typeface, shown = legible({int(i): labels[i] for i in best})
    rows = [_Row(_BOXES.by_idx(n), shown[int(i)], float(scores[i])) for n, i in enumerate(best)]
    return _panel(canvas, rows, typeface)


def _panel(canvas: np.ndarray, rows: Sequence[_Row], typeface: Typeface) -> np.ndarray:
    """Rows on a dark transparent panel in the lower left corner; not drawn where it would cover half of the picture."""
    height, width = canvas.shape[:2]
    size = letter_height(canvas)
    font = typeface.sized(size)
    step, pad = round(size * 1.5), round(size * 0.8)
    bar = 4 * size if rows[0].share is not None else 0
    number = round(font.getlength("0.00")) + pad if bar else 0
    text = round(max(font.getlength(row.name) for row in rows))
    right = pad + size + text + (pad + bar + number if bar else 0) + pad
    bottom = len(rows) * step + pad
    if bottom > height / 2 or right > width:
        return canvas
    glass = Image.new("RGBA", (right, bottom), PANEL)
    pen = ImageDraw.Draw(glass)
    for n, row in enumerate(rows):
        middle = pad // 2 + n * step + step / 2
        dot = size * 0.28
        pen.ellipse((pad, middle - dot, pad + 2 * dot, middle + dot), fill=(*row.colour.as_rgb(), 255))
        pen.text((pad + size, middle), row.name, font=font, fill=WHITE, anchor="lm")
        if row.share is not None:
            left = pad + size + text + pad
            pen.rectangle((left, middle - dot, left + bar, middle + dot), fill=_TRACK)
            pen.rectangle((left, middle - dot, left + bar * row.share, middle + dot), fill=(*row.colour.as_rgb(), 255))
            pen.text((right - pad, middle), f"{row.share:.2f}", font=font, fill=WHITE, anchor="rm")
    return in_the_corner(canvas, np.asarray(glass))
