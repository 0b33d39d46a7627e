"""Qwen2.5-VL's places: a JSON list of objects, their numbers pixels of the picture as the network read it.

    [{"bbox_2d": [left, top, right, bottom], "label": "a dog"}, {"point_2d": [x, y], "label": "its nose"}]
"""

from __future__ import annotations

from typing import Any

from tritonvision.grounding.grounded import Box, Grounded, Point, boxes, numbers, point
from tritonvision.grounding.reply import unfenced
from tritonvision.grounding.tolerant_json import objects

_PHRASE = ("label", "text_content", "text")  # the second is what it writes of lines of text
_BOX, _POINT = ("bbox_2d", "bbox"), ("point_2d", "point")


def read(text: str, width: int, height: int) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`."""
    return scaled(text, width, height)


def scaled(text: str, width: float, height: float) -> list[Grounded]:
    """The objects of the list, those of one phrase together, where x goes up to ``width`` and y up to ``height``."""
    found: dict[str, tuple[list[Box], list[Point]]] = {}
    for one in objects(unfenced(text)):
        phrase = next((one[key] for key in _PHRASE if isinstance(one.get(key), str)), "")
        marked = point(_value(one, _POINT), width, height)
        framed = _boxes(_value(one, _BOX), width, height)
        if framed or marked is not None:
            its_boxes, its_points = found.setdefault(phrase.strip(), ([], []))
            its_boxes += framed
            its_points += [] if marked is None else [marked]
    return [
        Grounded(phrase, tuple(dict.fromkeys(framed)), points=tuple(dict.fromkeys(marked)))
        for phrase, (framed, marked) in found.items()
    ]


def _value(one: dict[str, Any], keys: tuple[str, ...]) -> Any:
    return next((one[key] for key in keys if key in one), None)


def _boxes(value: Any, width: float, height: float) -> tuple[Box, ...]:
    """One box, or a list of them."""
    if not isinstance(value, list):
        return ()
    return boxes([value] if numbers(value, 4) else value, width, height)
