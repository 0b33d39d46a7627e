"""Drawing text: recognised words above their boxes, or an answer on a panel below the picture."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tritonvision.drawing.panels import PANEL, WHITE, blended
from tritonvision.drawing.typefaces import Typeface, best_for, drawable
from tritonvision.results import Detections, parts

_LINE = 1  # class id of a page of text
_TINTS = ((37, 99, 235), (5, 150, 105), (180, 83, 9), (124, 58, 237))  # RGB of lines, alternating
_TINT, _FRAME = 34, 210  # opacity of a line's tint and of a word's frame, 0 to 255
_PLATE = (15, 23, 42, 216)  # RGBA
_SMALLEST, _LARGEST = 8, 64  # pixels of letters
_NARROWEST = 240  # the smallest width of a panel, pixels
_MOST_LINES = 60


def draw_page(canvas: np.ndarray, text: str, detections: Detections) -> np.ndarray:
    """A copy of ``canvas`` with tinted lines, framed words, and a label above each word with its recognised text; where
    lines are not divided into words, they are what is framed and labelled.

    Args:
        canvas: BGR uint8 ``[h, w, 3]``.
        text: of the whole page; not drawn, because its words are.
        detections: blocks, lines and words, ``bboxes_metadata`` with the ``text`` of each.
    """
    glass = Image.new("RGBA", (canvas.shape[1], canvas.shape[0]))
    pen = ImageDraw.Draw(glass)
    frame = max(1, round(min(canvas.shape[:2]) / 600))
    for number, row in enumerate(np.flatnonzero(detections.class_id == _LINE)):
        pen.rectangle(_corners(detections, row), fill=(*_TINTS[number % len(_TINTS)], _TINT))
    regions = detections.bboxes_metadata or []
    lines: dict[int, list[int]] = {}
    for row in parts(detections):
        parent = regions[row]["parent"]
        lines.setdefault(row if parent < 0 else parent, []).append(row)
    for number, words in enumerate(lines.values()):
        for row in words:
            color = (*_TINTS[number % len(_TINTS)], _FRAME)
            if "polygon" in regions[row]:
                pen.polygon([tuple(corner) for corner in regions[row]["polygon"]], outline=color, width=frame)
            else:
                pen.rectangle(_corners(detections, row), outline=color, width=frame)
    typeface = best_for({region["text"] for region in regions})
    for words in lines.values():
        high = float(np.median([detections.xyxy[row, 3] - detections.xyxy[row, 1] for row in words]))
        size = int(np.clip(round(0.42 * high), _SMALLEST, _LARGEST))
        for row in words:
            reading = drawable(regions[row]["text"], typeface)
            _plate(pen, _corners(detections, row), reading, typeface, size)
    return blended(canvas, np.asarray(glass))


def draw_line(canvas: np.ndarray, text: str) -> np.ndarray:
    """``canvas`` (BGR uint8 ``[h, w, 3]``) and a panel below it with ``text``, in as many lines as needed.

    A picture too narrow for a panel is padded at its right; a text over sixty lines is cut and ends in dots.
    """
    height, width = canvas.shape[:2]
    wide = max(width, _NARROWEST)
    size = int(np.clip(round(wide / 30), 14, 40))
    typeface, pad = best_for([text]), round(0.7 * size)
    font = typeface.sized(size)
    lines = wrapped(drawable(text, typeface), wide - 2 * pad, font, _MOST_LINES + 1)
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "..."]
    step = round(1.4 * size)
    panel = Image.new("RGB", (wide, len(lines) * step + 2 * pad - (step - size)), PANEL[:3])
    pen = ImageDraw.Draw(panel)
    for number, line in enumerate(lines):
        pen.text((pad, pad + number * step), line, font=font, fill=WHITE[:3], anchor="la")
    whole = np.full((height + panel.height, wide, 3), PANEL[2::-1], np.uint8)
    whole[:height, :width] = canvas
    whole[height:] = np.asarray(panel)[..., ::-1]
    return whole


def wrapped(text: str, width: float, font: ImageFont.FreeTypeFont, most: int) -> list[str]:
    """``text`` in lines of at most ``width`` pixels, broken between words where possible; always at least one line.

    Args:
        most: lines after which the rest is left out.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if _fitting(longer, width, font) == len(longer):
                line = longer
                continue
            if line:
                lines.append(line)
            while len(lines) < most and (fitting := _fitting(word, width, font)) < len(word):
                lines.append(word[:fitting])
                word = word[fitting:]
            line = word
            if len(lines) >= most:
                return lines[:most]
        lines.append(line)
    return lines[:most]


def _fitting(text: str, width: float, font: ImageFont.FreeTypeFont) -> int:
    """How many of the first letters of ``text`` stand in ``width`` pixels; one at least, but of an empty text.

    Of a long text only so much is measured as stands in twice the width.
    """
    few = 1
    while few < len(text) and font.getlength(text[: 2 * few]) <= width:
        few *= 2
    if few >= len(text):
        return len(text)
    many = min(2 * few, len(text))  # the answer is from few on, and below this
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (middle, many) if font.getlength(text[:middle]) <= width else (few, middle)
    return few


def _corners(detections: Detections, row: int) -> tuple[float, float, float, float]:
    left, top, right, bottom = detections.xyxy[row].tolist()
    return left, top, max(left, right - 1), max(top, bottom - 1)


def _plate(
    pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str, typeface: Typeface, size: int
) -> None:
    """Draw a word's text above its box in letters of ``size`` pixels, made smaller and then cut to the word's width.

    So a text that is too long does not cover its neighbours.
    """
    left, top, right, _ = box
    font = typeface.sized(size)
    room = right - left - 0.4 * size
    while size > _SMALLEST and font.getlength(text) > room:
        size -= 1
        font = typeface.sized(size)
    while len(text) > 1 and font.getlength(text) > room:
        text = text[:-1]
    if not text.strip():
        return
    high = round(1.3 * size)
    top = max(0, top - high)
    pen.rectangle((left, top, left + font.getlength(text) + 0.4 * size, top + high), fill=_PLATE)
    pen.text((left + 0.2 * size, top + high / 2), text, font=font, fill=WHITE, anchor="lm")
