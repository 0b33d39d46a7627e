"""Questions in parts, and streamed answers piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def next_piece(pieces: AsyncIterator[T]) -> tuple[T, ...]:
    """The next piece in a tuple; an empty tuple after the last one."""
    try:
        return (await anext(pieces),)
    except StopAsyncIteration:
        return ()


def parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """``items`` in parts of ``size``; the last may be shorter."""
    return [items[i : i + size] for i in range(0, len(items), size)]
