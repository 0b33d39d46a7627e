"""When a server that is busy is asked again."""

from __future__ import annotations

from collections.abc import Mapping

TRIES = 3
_BUSY = {408, 429, 500, 502, 503, 504}
_PATIENCE = 20.0  # seconds that are waited where the server names a time


def pause(status: int, headers: Mapping[str, str]) -> float | None:
    """Seconds after which it makes sense to ask again, or None: it does not, or not soon."""
    after = _told(headers)
    if status not in _BUSY or (after is not None and after > _PATIENCE):
        return None
    return 1.0 if after is None else after


def when(headers: Mapping[str, str]) -> str:
    """The time that the server names, in words."""
    after = _told(headers)
    return "later" if after is None else f"in {after:.0f} seconds"


def _told(headers: Mapping[str, str]) -> float | None:
    told = headers.get("Retry-After", "")
    return float(told) if told.isdigit() else None
