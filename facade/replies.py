"""JSON answers, and how an error leaves the house: each dialect dresses it, nothing else is said twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import orjson
from starlette.responses import Response

from tritonvision.errors import TritonVisionError, Unauthorized


def reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``content``, arrays in it too, as a JSON response."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, status, dict(headers or {}), "application/json")


class Dialect(Protocol):
    """What a dialect says when it cannot answer. Each function returns the body of the response."""

    NAME: str

    def error_body(self, error: TritonVisionError) -> dict[str, Any]:
        """The body for an error of the tree."""

    def http_error_body(self, status: int, sentence: str) -> dict[str, Any]:
        """The body for what the web framework refused: an unknown route, a wrong method."""

    def invalid(self, problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
        """Status and body for a request that does not fit its schema; ``problems`` as pydantic lists them."""


def refuse(dialect: Dialect, error: TritonVisionError) -> Response:
    """The response for an error of the tree."""
    headers = {}
    if error.status == 503 or error.retry_after is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after or 1))
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= 500 and not error.retryable:
        headers["X-Should-Retry"] = "false"  # OpenAI's client would ask twice more
    return reply(dialect.error_body(error), error.status, headers)


def sentence(error: TritonVisionError) -> str:
    """What to tell a person: the sentence and the hint."""
    return f"{error.message} {error.hint}".strip()
