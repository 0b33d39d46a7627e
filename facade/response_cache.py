"""Answers that were given before, for requests that ask the same again: bounded in bytes, the least recently used go.

It belongs to one process and is forgotten with it. Requests for the same answer that are under way at once are each
worked out: so each can be cancelled by its own caller, and nobody waits for somebody else's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# What an entry takes beside its key and its body: the objects around them, and their place in the dictionary.
_OVERHEAD = 512


@dataclass(frozen=True)
class _Entry:
    owner: object
    body: bytes
    size: int


class ResponseCache:
    """Bodies of answers by key.

    Args:
        limit: bytes of all entries together; 0 keeps nothing.

    Attributes:
        bytes: that the entries take.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, owner: object) -> bytes | None:
        """The body under ``key`` that this very ``owner`` gave, or None; it now counts as used.

        A manifest that is read anew is another object, so what a model said before it was published again is not found.
        """
        entry = self._entries.get(key)
        if entry is None or entry.owner is not owner:
            return None
        self._entries.move_to_end(key)
        return entry.body

    def put(self, key: bytes, owner: object, body: bytes) -> None:
        """Keep ``body``, in the place of what was there; one that is larger than all the room is not kept."""
        self._drop(key)
        size = len(key) + len(body) + _OVERHEAD
        if size > self.limit:
            return
        self._entries[key] = _Entry(owner, body, size)
        self.bytes += size
        while self.bytes > self.limit:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
