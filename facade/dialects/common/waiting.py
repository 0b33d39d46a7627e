"""Whether a caller waits for a model that is not loaded, and what headers mean by yes and no."""

from __future__ import annotations

from starlette.requests import Request

_TRUE, _FALSE = ("true", "1"), ("false", "0")
_WAIT_SECONDS = 300.0  # the most a caller who asked to wait for a model waits, seconds


def wait_of(request: Request) -> tuple[bool, float]:
    """Whether the caller waits for a model that is not loaded, and for how many seconds."""
    wait = boolean(request.headers.get("x-wait-for-model"), False)
    return wait, _WAIT_SECONDS if wait else 0.0


def boolean(text: str | None, default: bool) -> bool:
    """What a header says, or ``default`` when it says nothing of the kind."""
    value = (text or "").strip().lower()
    return value in _TRUE if value in _TRUE + _FALSE else default
