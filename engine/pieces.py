"""Streamed answers, piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def next_piece(pieces: AsyncIterator[T]) -> tuple[T, ...]:
    """The next piece in a tuple; an empty tuple after the last one."""
    try:
        return (await anext(pieces),)
    except StopAsyncIteration:
        return ()
