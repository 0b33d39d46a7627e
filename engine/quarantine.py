"""Remembers pictures that were in progress when a process died, so that one cannot crash process after process."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from tritonvision.errors import InvalidPicture

_MOST = 1024
_DEATHS = 2


class Quarantine:
    """Counts crashes by the hash of the picture in progress. An answer resets its count; after two it is refused."""

    def __init__(self) -> None:
        self._near: OrderedDict[bytes, set[int]] = OrderedDict()

    def check(self, picture: bytes) -> None:
        """Raises InvalidPicture when ``picture`` was in progress at two crashes and never answered."""
        if self._near and len(self._near.get(_hash(picture), ())) >= _DEATHS:
            raise InvalidPicture("This picture ended the process that read it, twice; it is refused.")

    def add(self, picture: bytes, death: int) -> None:
        """``picture`` was in progress at the crash number ``death``."""
        key = _hash(picture)
        self._near.setdefault(key, set()).add(death)
        self._near.move_to_end(key)
        if len(self._near) > _MOST:
            self._near.popitem(last=False)

    def clear(self, picture: bytes) -> None:
        """``picture`` was answered."""
        if self._near:
            self._near.pop(_hash(picture), None)


def _hash(picture: bytes) -> bytes:
    return hashlib.sha256(picture).digest()
