"""JSON as models write it: within other text, with single quotes, with a comma too many, cut at the end."""

from __future__ import annotations

import json
import re
from typing import Any

_DECODER = json.JSONDecoder()
_TRIES = 2000  # beginnings of objects that are looked at
_LOOSE = re.compile(r"""
    "(?:[^"\\]|\\.)*(?:"|\\?\Z)      # a text: stays; one without an end is passed once, not from each of its quotes
    | '(?P<single>(?:[^'\\]|\\.)*)(?:'|\\?\Z)     # a text in single quotes
    | (?P<comma>,)(?=\s*[}\]])          # a comma with nothing behind it
""", re.VERBOSE | re.DOTALL)  # fmt: skip


def objects(text: str) -> list[dict[str, Any]]:
    """The complete objects of a text, the outermost where they are complete, in order.

    Of a list that is cut that is every object before the cut; of an object that is cut, those inside it.
    """
    return _objects(text) or _objects(_LOOSE.sub(_strict, text[max(text.find("{"), 0) :]))


def _objects(text: str) -> list[dict[str, Any]]:
    return [value for value in _values(text, "{") if isinstance(value, dict)]


def _values(text: str, begin: str) -> list[Any]:
    """Every value that begins with ``begin`` and is complete."""
    found, at = [], text.find(begin)
    for _ in range(_TRIES):
        if at < 0:
            break
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            found.append(value)
        at = text.find(begin, end)
    return found


def _strict(found: re.Match[str]) -> str:
    if found["comma"]:
        return ""
    if found["single"] is not None:
        return json.dumps(found["single"].replace("\\'", "'"))
    return found[0]
