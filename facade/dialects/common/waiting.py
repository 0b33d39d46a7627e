"""Headers that say whether a caller waits for a model that is not loaded."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_WAIT_SECONDS = 300.0  # the longest wait for a model, seconds


def wait_of(request: Request, default: bool = False) -> tuple[bool, float]:
    """Whether the caller waits for a model that is not loaded, and for how many seconds.

    Args:
        default: without the header.
    """
    wait = boolean(request.headers.get("x-wait-for-model"), default)
    return wait, _WAIT_SECONDS if wait else 0.0


def boolean(given: Any, default: bool) -> bool:
    """The boolean in a header or a JSON value, or ``default`` if it is none."""
    value = str(given).strip().lower()
    return value in _TRUE if value in _TRUE + _FALSE else default
