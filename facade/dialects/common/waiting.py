"""Whether a caller waits for a model that is not loaded, and what headers mean by yes and no."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_WAIT_SECONDS = 300.0  # the most a caller who asked to wait for a model waits, seconds


def wait_of(request: Request, default: bool = False) -> tuple[bool, float]:
    """Whether the caller waits for a model that is not loaded, and for how many seconds.

    Args:
        default: what counts where the header says nothing.
    """
    wait = boolean(request.headers.get("x-wait-for-model"), default)
    return wait, _WAIT_SECONDS if wait else 0.0


def boolean(given: Any, default: bool) -> bool:
    """What a header or a JSON value says, or ``default`` when it says nothing of the kind."""
    value = str(given).strip().lower()
    return value in _TRUE if value in _TRUE + _FALSE else default
