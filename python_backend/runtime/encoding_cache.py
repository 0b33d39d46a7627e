"""A cache of arrays that the processes of a server share: files by key, bounded in bytes.

A file is written under another name and renamed, so it is complete or missing. Locks are the kernel's, which releases
them when a process dies. So a process can be killed at any moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import struct
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tritonvision import heartbeat

Arrays = tuple[np.ndarray, ...]

LIMIT = 512 * 2**20
_SUFFIX = ".npy"
_UNFINISHED = ".part"
_FORGOTTEN_SECONDS = 60.0  # a file is written in milliseconds


class SharedCache:
    """Tuples of arrays by key, for all processes with the same folder; least recently used entries are removed first.

    A cache that cannot be read or written (a full disk, a folder removed) is an empty cache and never an error.

    Args:
        folder: made when it is missing.
        limit: bytes of all entries together.
    """

    def __init__(self, folder: Path, limit: int = LIMIT):
        self.folder = folder
        self.limit = limit

    def fetch(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """The entry ``key``, a file name; if there is none, the result of ``make``, which is stored.

        A process waits for a key that another one is making; if that fails, the next one makes it.
        """
        found = self.get(key)
        if found is not None:
            return found
        with self._alone(key):
            found = self.get(key)
            if found is None:
                found = make()
                self.put(key, found)
        return found

    def get(self, key: str) -> Arrays | None:
        """The entry ``key``, or None; marks it as used."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                end = os.fstat(file.fileno()).st_size
                arrays = []
                while file.tell() < end:
                    arrays.append(np.load(file, allow_pickle=False))
            os.utime(path)
        except (OSError, ValueError, EOFError):
            return None
        return tuple(arrays) or None

    def put(self, key: str, arrays: Arrays) -> None:
        """Store ``arrays``, none of them of objects, under ``key``."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(suffix=_UNFINISHED, dir=self.folder)
            try:
                with open(handle, "wb") as file:
                    for array in arrays:
                        np.save(file, array, allow_pickle=False)
                os.replace(name, self._path(key))
            except OSError:
                os.unlink(name)
                raise
            self._make_room()

    def _path(self, key: str) -> Path:
        return self.folder / (key + _SUFFIX)

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        """A lock of this key across processes.

        Each key has a lock of its own, one byte of one file, which need not exist, so locks leave nothing behind.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = open(self.folder / "locks", "wb")  # noqa: SIM115
        except OSError:
            yield
            return
        with lock:
            with heartbeat.waiting():  # for another process, however long it works
                fcntl.fcntl(lock, fcntl.F_OFD_SETLKW, _byte_of(key))
            yield

    def _make_room(self) -> None:
        entries = []
        for file in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):  # another process makes room, too
                stat = file.stat()
                if file.name.endswith(_SUFFIX):
                    entries.append((stat.st_mtime_ns, stat.st_size, file.path))
                elif file.name.endswith(_UNFINISHED) and stat.st_mtime < time.time() - _FORGOTTEN_SECONDS:
                    os.unlink(file.path)
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries)[:-1]:  # the newest one stays, however large it is
            if total <= self.limit:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            total -= size


def _byte_of(key: str) -> bytes:
    """``struct flock`` of fcntl(2): to write, from the start of the file, one byte at a place that the key decides."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
    return struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)


def of_server(name: str, limit: int = LIMIT) -> SharedCache:
    """The cache ``name`` of the tritonserver that this process belongs to; it is removed with the server. Without a
    supervisor there is no such folder, and the cache is this process's own.
    """
    home = heartbeat.folder()
    if home is not None:
        return SharedCache(home / name, limit)
    cache = SharedCache(Path(tempfile.mkdtemp(prefix=f"tritonvision-own-{name}-")), limit)
    weakref.finalize(cache, shutil.rmtree, cache.folder, ignore_errors=True)
    return cache
