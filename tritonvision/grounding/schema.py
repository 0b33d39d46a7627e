"""Vi's schema for phrases and boxes, which fine-tuned models write and any model can be asked for.

    {"phrase_grounding": {"sentence": "...", "groundings": [{"phrase": "...", "grounding": [[x0, y0, x1, y1], ...]}]}}

Numbers are 0 to 1024 of the whole picture's width and height.
"""

from __future__ import annotations

from typing import Any

from tritonvision.grounding.grounded import Grounded, boxes, numbers
from tritonvision.grounding.tolerant_json import objects

NAME = "vi"
SCALE = 1024
_MOST = 20  # phrases of one answer
_WHOLE, _LISTED, _PLACES, _SENTENCE = "phrase_grounding", "groundings", "grounding", "sentence"
_CORNER = {"type": "integer", "minimum": 0, "maximum": SCALE}
_BOX = {"type": "array", "items": _CORNER, "minItems": 4, "maxItems": 4}
_TEXT = {"type": "string", "minLength": 1}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


_PHRASE = _object(phrase=_TEXT, grounding={"type": "array", "items": _BOX, "minItems": 1})
# The same for a model whose answers follow a JSON schema.
JSON_SCHEMA = _object(
    phrase_grounding=_object(sentence=_TEXT, groundings={"type": "array", "items": _PHRASE, "maxItems": _MOST})
)


def is_in(text: str) -> bool:
    """Whether a text is written in the schema, complete or cut."""
    return f'"{_WHOLE}"' in text or f'"{_LISTED}"' in text


def read(text: str, width: int, height: int) -> list[Grounded]:
    """See :func:`tritonvision.grounding.parse`."""
    found = []
    for entry in _entries(text):
        phrase, places = entry.get("phrase"), entry.get(_PLACES)
        if not isinstance(phrase, str) or not isinstance(places, list):
            continue
        listed = boxes([places] if numbers(places, 4) else places, SCALE, SCALE)
        if listed:
            found.append(Grounded(phrase, listed))
    return found


def sentence(text: str) -> str:
    """The sentence of a text in the schema; empty where it has none."""
    if not is_in(text):
        return ""
    for found in objects(text):
        told = _inside(found).get(_SENTENCE)
        if isinstance(told, str) and told.strip():
            return told.strip()
    return ""


def _entries(text: str) -> list[dict[str, Any]]:
    """The groundings: of a text that is cut, those that are complete."""
    entries: list[dict[str, Any]] = []
    for found in objects(text):
        inside = _inside(found)
        listed = inside.get(_LISTED)
        entries += [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else [inside]
    return entries


def _inside(found: dict[str, Any]) -> dict[str, Any]:
    inside = found.get(_WHOLE, found)
    return inside if isinstance(inside, dict) else {}
