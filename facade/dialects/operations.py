"""The OpenAPI description of one operation beyond its fields, and the parts that dialects share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# A yellow disc on blue, 48 x 36 pixels, PNG in base64: small enough to read, and a picture that every route takes.
PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAADAAAAAkAQMAAAD1iytJAAAABlBMVEUlY+v6zBWfK2xBAAAATElEQVR42p3OsQ2AMBTE0JdPwRiwCdmM1TJKRmAA"
    "lFBQhBJwc7Lk4vjNfIDlJFiDICcmilRCIou7DsE67MU06rBOgb2DrRHU9vzyjQup8A2owFKjxAAAAABJRU5ErkJggg=="
)
JSON = "application/json"
# Groups of the routes that belong to no vendor.
MODELS, LOADING, HEALTH = "Models", "Loading", "Health"
# Statuses by what a route does; 401, 413 and 503 apply to all (see openapi.py).
READS_BODY = (422,)
ASKS = (400, 404, 501, 502, 504, 507)  # loads a model, which may be unknown, unable, too large or late


@dataclass(frozen=True)
class Operation:
    """One operation.

    Attributes:
        summary: what it is for, in a few words.
        answer: the type of its JSON, None where it is no JSON.
        example: an answer.
        asks: valid bodies, by title.
        statuses: of its errors, besides those that every route has.
        media: other content types of the answer, and their schemas.
        ways: bodies by content type, of routes whose body is no JSON: schema and example.
    """

    summary: str
    answer: Any = None
    example: Any = None
    asks: Mapping[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()
    media: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def event_stream(when: str, data: str) -> dict[str, Any]:
    """Server-sent events as an answer: when they come, and what stands behind ``data`` of each."""
    schema = {
        "type": "object", "required": ["data"],
        "description": f"{when}: server-sent events, of which this is one.",
        "properties": {"data": {"type": "string", "description": data}},
    }  # fmt: skip
    return {"text/event-stream": {"schema": schema}}


BINARY: Mapping[str, Any] = {"schema": {"type": "string", "format": "binary"}}
