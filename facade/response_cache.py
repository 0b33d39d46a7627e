"""An LRU cache of answers to equal requests, bounded in bytes; behind it, where there is one, the facades' Redis.

Concurrent equal requests are each computed, so that each can be cancelled by its own caller.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import tritonvision
from tritonvision.facade.shared_store import SharedStore, name_of
from tritonvision.publication import Manifest

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


class Responses:
    """Answers by request and model: of this process, and of the others that share a Redis.

    What is shared is found by the whole manifest and the version of this package, so an answer is only ever that of the
    same publication, in the same variant, written by the same code.

    Args:
        cache: of this process; with a limit of 0 nothing is kept anywhere.
    """

    def __init__(self, cache: ResponseCache, store: SharedStore):
        self._cache, self._store = cache, store
        self._models: dict[str, tuple[Manifest, str]] = {}

    def __len__(self) -> int:
        """Answers kept in this process."""
        return len(self._cache)

    @property
    def limit(self) -> int:
        """Bytes kept in this process at most."""
        return self._cache.limit

    async def get(self, key: bytes, manifest: Manifest) -> bytes | None:
        """The body of the answer, or None."""
        body = self._cache.get(key, manifest)
        if body is None and self._store.well:
            body = await self._store.get(self._shared_name(key, manifest))
            if body is not None:
                self._cache.put(key, manifest, body)
        return body

    def put(self, key: bytes, manifest: Manifest, body: bytes) -> None:
        """Keep ``body``, elsewhere beside the answer that is being given."""
        self._cache.put(key, manifest, body)
        if self._store.well and len(body) <= self.limit:
            self._store.later(self._store.put(self._shared_name(key, manifest), body))

    def _shared_name(self, key: bytes, manifest: Manifest) -> str:
        known = self._models.get(manifest.id)
        if known is None or known[0] is not manifest:
            known = self._models[manifest.id] = manifest, name_of("model", manifest.to_json())
        return name_of("answer", tritonvision.__version__, known[1], key)
