"""Moondream's places: JSON of the form that its ``detect`` and ``point`` return, with the object's name.

    {"object": "cat", "objects": [{"x_min": 0.1, "y_min": 0.2, "x_max": 0.5, "y_max": 0.6}, ...]}
    {"object": "cat", "points": [{"x": 0.3, "y": 0.4}, ...]}

Numbers are fractions of the picture; boxes may begin outside of it.
"""

from __future__ import annotations

from typing import Any

from tritonvision.grounding.grounded import Grounded, boxes, point
from tritonvision.grounding.tolerant_json import objects

NAME = "moondream"
_CORNERS = ("x_min", "y_min", "x_max", "y_max")


def read(text: str, width: int, height: int) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`: one result for each object that the text names."""
    found = []
    for told in objects(text):
        name = told.get("object")
        phrase = name if isinstance(name, str) else ""
        places = boxes((_numbers(place, _CORNERS) for place in _listed(told, "objects")), 1, 1)
        dots = tuple(
            dot for place in _listed(told, "points") if (dot := point(_numbers(place, ("x", "y")), 1, 1)) is not None
        )
        if places or dots:
            found.append(Grounded(phrase, places, points=dots))
    return found


def _listed(told: dict[str, Any], key: str) -> list[Any]:
    value = told.get(key)
    return value if isinstance(value, list) else []


def _numbers(place: Any, names: tuple[str, ...]) -> list[Any] | None:
    return [place.get(name) for name in names] if isinstance(place, dict) else None
