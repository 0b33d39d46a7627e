"""Ten JSON schemas whose answers end: every text, list and number in them is bounded."""

from typing import Any

NO_MORE = {"additionalProperties": False}
POINT: dict[str, Any] = {
    "type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 999}, "minItems": 4, "maxItems": 4,
}  # fmt: skip
SCHEMAS: dict[str, Any] = {
    "a number": {"type": "integer", "minimum": -5, "maximum": 120},
    "one of some": {"enum": ["yes", "no", None, 3]},
    "a date": {"type": "string", "format": "date"},
    "a pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
    "a short text": {"type": "string", "maxLength": 12},
    "an object": {"type": "object", "properties": {
        "label": {"type": "string", "maxLength": 8}, "sure": {"type": "boolean"},
    }, "required": ["label", "sure"], **NO_MORE},
    "boxes": {"type": "array", "maxItems": 3, "items": {
        "type": "object", "properties": {"bbox_2d": POINT, "label": {"enum": ["cat", "dog"]}},
        "required": ["bbox_2d", "label"], **NO_MORE,
    }},
    "one of two kinds": {"anyOf": [
        {"type": "object", "properties": {"kind": {"const": "text"}, "words": {"type": "string", "maxLength": 9}},
         "required": ["kind", "words"], **NO_MORE},
        {"type": "object", "properties": {"kind": {"const": "count"}, "count": {"type": "integer", "minimum": 0,
         "maximum": 99}}, "required": ["kind", "count"], **NO_MORE},
    ]},
    "a definition": {"$defs": {"side": {"type": "integer", "minimum": 1, "maximum": 64}}, "type": "object",
                     "properties": {"w": {"$ref": "#/$defs/side"}, "h": {"$ref": "#/$defs/side"}},
                     "required": ["w", "h"], **NO_MORE},
    "objects in objects": {"type": "object", "properties": {"page": {"type": "object", "properties": {
        "lines": {"type": "array", "items": {"type": "string", "maxLength": 5}, "maxItems": 2},
    }, "required": ["lines"], **NO_MORE}}, "required": ["page"], **NO_MORE},
}  # fmt: skip
