"""JSON responses, and error responses in the form of each dialect."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from tritonvision.errors import TritonVisionError, Unauthorized

if TYPE_CHECKING:
    from tritonvision.facade.dialects.base import Errors


def reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content``, arrays in it too, as a JSON response."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), "application/json")


def refuse(errors: Errors, error: TritonVisionError) -> Response:
    """The response for an error of the tree."""
    headers = {}
    if error.status == 503 or error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after or 1))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= 500 and not error.retryable:
        headers["X-Should-Retry"] = "false"  # OpenAI's client would retry twice
    return reply(errors.error_body(error), error.status, headers)


def sentence(error: TritonVisionError) -> str:
    """The message of an error: its sentence and hint, each cut if they quote too much of a request."""
    return f"{cut(error.message)} {cut(error.hint)}".strip()


def cut(text: str, most: int = 500) -> str:
    """``text``, cut to ``most`` characters."""
    return text if len(text) <= most else f"{text[:most]}..."
