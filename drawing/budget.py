"""Where the time of a request goes, drawn as one bar: a segment for each part, with a legend below."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from tritonvision.drawing.typefaces import best_for

_WIDTH, _MARGIN, _BAR = 1200, 40, 90  # pixels
_TITLE, _TEXT = 28, 18  # pixels of letters
_LINE = 30
_BACKGROUND, _INK, _FAINT = (255, 255, 255), (17, 24, 39), (107, 114, 128)
_HUES = (0.60, 0.08, 0.36, 0.78, 0.13, 0.48, 0.95, 0.68)  # of places, taking turns
_WIDE = 46  # pixels of a segment in which its number can be read


@dataclass(frozen=True)
class Bar:
    """A part of the bar: where the time is spent, on what, and milliseconds of it."""

    place: str
    what: str
    milliseconds: float


def draw_budget(title: str, parts: Sequence[Bar]) -> Image.Image:
    """An RGB picture 1200 pixels wide: ``title``, the bar, and a line for each of ``parts`` in their order.

    Segments of one place share a hue. What is below zero, as a difference of two clocks may be, has no segment.
    """
    typeface = best_for([title, *(f"{part.place} {part.what}" for part in parts)])
    small, large = typeface.sized(_TEXT), typeface.sized(_TITLE)
    whole = sum(max(part.milliseconds, 0.0) for part in parts) or 1.0
    top = _MARGIN + _TITLE + 24
    height = top + _BAR + 30 + _LINE * len(parts) + _MARGIN
    canvas = Image.new("RGB", (_WIDTH, height), _BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, _MARGIN - 8), f"{title}: {whole:.1f} ms a request", font=large, fill=_INK)
    colours = _colours([part.place for part in parts])
    left, room = float(_MARGIN), _WIDTH - 2 * _MARGIN
    for number, (part, colour) in enumerate(zip(parts, colours, strict=True)):
        right = left + room * max(part.milliseconds, 0.0) / whole
        if right - left >= 1:
            pen.rectangle((left, top, right - 1, top + _BAR), fill=colour)
        if right - left >= _WIDE:
            middle = (left + right) / 2, top + _BAR / 2
            pen.text(middle, f"{part.milliseconds:.1f}", font=small, fill=_letters(colour), anchor="mm")
        left = right
        y = top + _BAR + 30 + number * _LINE
        pen.rectangle((_MARGIN, y, _MARGIN + _TEXT, y + _TEXT), fill=colour)
        pen.text((_MARGIN + 32, y - 2), part.place, font=small, fill=_INK)
        pen.text((_MARGIN + 470, y - 2), part.what, font=small, fill=_FAINT)
        pen.text((_WIDTH - _MARGIN - 80, y - 2), f"{part.milliseconds:.2f} ms", font=small, fill=_INK, anchor="ra")
        pen.text((_WIDTH - _MARGIN, y - 2), f"{part.milliseconds / whole:.0%}", font=small, fill=_INK, anchor="ra")
    return canvas


def _colours(places: Sequence[str]) -> list[tuple[int, int, int]]:
    """One a part: a hue for each place, the parts of a place from dark to light."""
    known = {place: _HUES[number % len(_HUES)] for number, place in enumerate(dict.fromkeys(places))}
    seen: dict[str, int] = {}
    colours = []
    for place in places:
        shade = seen[place] = seen.get(place, -1) + 1
        red, green, blue = colorsys.hls_to_rgb(known[place], min(0.42 + 0.12 * shade, 0.82), 0.55)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


def _letters(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Dark letters on light colours, light ones on dark."""
    return _INK if sum(colour) > 420 else _BACKGROUND
