"""A phrase and the places it names, and how numbers of a text become places."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Grounded:
    """What a text says of one phrase.

    Attributes:
        phrase: what is there; empty where the text does not say.
        boxes: (left, top, right, bottom), fractions of the whole picture, 0 to 1.
        polygons: each the corners (x, y) of an outline, likewise.
        points: (x, y), likewise.
        start_end: the part of the text that says all this, phrase, tags and numbers: characters from and to. None where
            the text is a list for machines, of which no part is left to read.
    """

    phrase: str
    boxes: tuple[Box, ...] = ()
    polygons: tuple[tuple[Point, ...], ...] = ()
    points: tuple[Point, ...] = ()
    start_end: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON: ``phrase``, ``boxes``, ``polygons`` and ``points``."""
        return {"phrase": self.phrase, "boxes": self.boxes, "polygons": self.polygons, "points": self.points}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Grounded:
        """The same of such JSON; what is missing is empty."""
        boxes, points = (tuple(map(tuple, told.get(name, ()))) for name in ("boxes", "points"))
        outlines = tuple(tuple(map(tuple, outline)) for outline in told.get("polygons", ()))
        return cls(told.get("phrase", ""), boxes, outlines, points)


def numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers of a list, numbers spelt as texts included; None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    try:
        found = tuple(float(value) for value in values if type(value) in (int, float, str))
    except (ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def box(values: Any, width: float, height: float) -> Box | None:
    """The box whose two corners are ``values`` (x, y, x, y) on a picture of that size.

    Corners are put in order and moved to the picture's edge. None where they are not four numbers, or nothing of the
    box is on the picture.
    """
    found = numbers(values, 4)
    if found is None or width <= 0 or height <= 0:
        return None
    left, right = sorted(_fraction(value, width) for value in found[::2])
    top, bottom = sorted(_fraction(value, height) for value in found[1::2])
    return (left, top, right, bottom) if left < right and top < bottom else None


def point(values: Any, width: float, height: float) -> Point | None:
    """The point (x, y) on a picture of that size; None where they are not two numbers."""
    found = numbers(values, 2)
    if found is None or width <= 0 or height <= 0:
        return None
    return _fraction(found[0], width), _fraction(found[1], height)


def boxes(listed: Iterable[Any], width: float, height: float) -> tuple[Box, ...]:
    """Those of ``listed`` that are boxes, each once."""
    return tuple(dict.fromkeys(found for one in listed if (found := box(one, width, height)) is not None))


def _fraction(value: float, side: float) -> float:
    return min(max(value / side, 0.0), 1.0)
