"""An LRU cache of answers to equal requests, bounded in bytes.

It belongs to one process. Concurrent equal requests are each computed, so that each can be cancelled by its own caller.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

# Bytes of an entry beside its key and body: the objects around them, and the dictionary's slot.
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
        bytes: of all entries.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self.bytes = 0
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, owner: object) -> bytes | None:
        """The body under ``key`` that was put by the same ``owner`` object, or None; marks it as used.

        The owner is the manifest object; a model published again has a new one, so its old answers are not found.
        """
        entry = self._entries.get(key)
        if entry is None or entry.owner is not owner:
            return None
        self._entries.move_to_end(key)
        return entry.body

    def put(self, key: bytes, owner: object, body: bytes) -> None:
        """Store ``body``, unless it is larger than the whole cache."""
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
