"""Parses the JSON of requests off the event loop if it is large, with bounds on its depth and its size in memory."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import orjson
from starlette.requests import Request

from tritonvision.errors import InvalidParameter, PictureTooLarge
from tritonvision.facade.context import UNREAD, context_of
from tritonvision.facade.workers import LARGE, in_thread
from tritonvision.nesting import deeper_than

# How many separators of each kind a large body may hold: two bytes of JSON can become two hundred in memory. An
# encoding of SAM, 256 x 64 x 64 numbers in nested lists, fits; a picture is one string without any of these.
_MOST_SIGNS = {b",": 1_200_000, b"[": 50_000, b"{": 50_000, b'"': 200_000}
_MOST_WIDE = 4 * 2**20  # bytes of one text that is not ASCII, which may take four times its size
_STRIDE = 2**20  # other threads run between two of these
# Levels of lists and objects. A schema of answers has 64 at the most, and stands 3 levels deep; what is written again
# as JSON may have 254, and what is shown in an error as many as Python's stack has room for.
_DEEPEST = 100
_SPACE = 4096  # bytes before the first character, more of which no client sends
_FIRST = re.compile(rb"\s*(.?)", re.DOTALL)


async def read_json(request: Request) -> Any:
    """The body as JSON, parsed once and cached. Raises as :func:`parse_json`."""
    context = context_of(request)
    if context.json is UNREAD:
        body = bytearray()  # not request.body(), which would keep the bytes beside the parsed JSON
        async for piece in request.stream():
            body += piece
        context.json = await parse_json(body)
    return context.json


async def parse_json(body: bytes | bytearray) -> Any:
    """``body`` as JSON; a large one in a thread.

    Raises:
        ValueError: it is none, or nested over a thousand levels.
        InvalidParameter: it is nested too deeply to be worked with.
        PictureTooLarge: it would take too much memory.
    """
    return parsed(body) if len(body) < LARGE else await in_thread(_parse, body)


def starts_an_object(body: bytes) -> bool:
    """Whether ``body`` begins as a JSON object does."""
    return _FIRST.match(body, 0, _SPACE)[1] == b"{"  # type: ignore[index]  # it matches always


def _parse(body: bytes | bytearray) -> Any:
    for sign, most in _MOST_SIGNS.items():
        if sum(body.count(sign, start, start + _STRIDE) for start in range(0, len(body), _STRIDE)) > most:
            raise PictureTooLarge("The JSON of the request has too many values.")
    if not body.isascii() and any(len(text) > _MOST_WIDE and not text.isascii() for text in body.split(b'"')):
        raise PictureTooLarge(f"A text of the request is over the limit of {_MOST_WIDE >> 20} MB.")
    return parsed(body)


def parsed(body: bytes | bytearray) -> Any:
    """``body`` as JSON of bounded depth, at once. Raises ValueError, InvalidParameter."""
    value = orjson.loads(body)
    if _opened(body) > _DEEPEST and deeper_than(value, _DEEPEST):
        raise InvalidParameter(f"The JSON of the request has more than {_DEEPEST} levels.")
    return value


def _opened(body: bytes | bytearray) -> int:
    """How many lists and objects there can be. numpy takes a sixth of the time of two calls of ``bytes.count``."""
    signs = np.frombuffer(body, np.uint8)
    parts = (signs[start : start + _STRIDE] for start in range(0, len(signs), _STRIDE))  # what is compared takes memory
    return sum(int(np.count_nonzero((part == ord("[")) | (part == ord("{")))) for part in parts)
