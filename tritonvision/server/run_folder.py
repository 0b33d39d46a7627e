"""The private folder of a running server: its socket, its backends, files that its processes share.

Only the user who started the server can enter it, its name is random, and its process holds a lock on it (flock(2)). If
the lock is free, the owner is gone; this works across PID namespaces, and systemd-tmpfiles skips locked folders.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tritonvision.errors import SetupError

_PREFIX = "tritonvision-server-"
# Triton passes paths through a shell to its Python processes.
_SAFE = re.compile(r"[A-Za-z0-9_./+@-]+")
# The path of a Unix socket has at most 107 bytes, unix(7); the folder's own name and what lies in it take up to 40.
_LONGEST = 67
_NEEDED_BYTES = 8 * 2**20  # for the copied backends; without more room the encodings are not cached


class RunFolder:
    """A new folder below the first suitable place.

    Attributes:
        path: of the folder, mode 0700.

    Raises:
        SetupError: no place is suitable; the message has the reason for each.
    """

    def __init__(self) -> None:
        self._lock: int | None
        self.path, self._lock = _make_in(place())

    def remove(self) -> None:
        """Delete the folder and what is in it. Idempotent."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None


def place() -> Path:
    """Where run folders are made: the folder for temporary files if it is suitable, else another. Raises SetupError."""
    refusals = []
    for candidate in _places():
        refusal = _unfit(candidate)
        if not refusal:
            return candidate
        refusals.append(f"{candidate} {refusal}")
    raise SetupError(
        f"There is no folder for the files of the running server: {'; '.join(refusals)}.",
        hint="Let TMPDIR name a folder that is fit.",
    )


def abandoned() -> Iterator[Path]:
    """The run folders of this user whose owner is gone, each locked by this process until the next one."""
    for root in _places():
        for path in root.glob(f"{_PREFIX}*"):
            lock = _lock(path)
            if lock is not None:
                yield path
                os.close(lock)


def _places() -> list[Path]:
    found = [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    with contextlib.suppress(FileNotFoundError):  # there is no folder for temporary files that can be written
        found.insert(0, Path(tempfile.gettempdir()))
    with contextlib.suppress(RuntimeError):  # a user without a home
        found.append(Path.home() / ".cache")
    return list(dict.fromkeys(found))


def _unfit(folder: Path) -> str:
    """Why run folders cannot be made in ``folder``, the end of a sentence; empty when they can."""
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return "cannot be written"
    if not _SAFE.fullmatch(str(folder)):
        return "has letters in its name that the server cannot handle"
    if len(str(folder)) > _LONGEST:
        return "has too long a name"
    space = os.statvfs(folder)
    if space.f_flag & os.ST_NOEXEC:
        return "is mounted noexec"
    if space.f_bavail * space.f_frsize < _NEEDED_BYTES:
        return "is full"
    return ""


def _make_in(place: Path) -> tuple[Path, int]:
    """A new folder and the descriptor that locks it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        lock = _lock(path)
        if lock is not None:
            return path, lock
        # another starting server took the new folder for an abandoned one and is removing it


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of the folder ``path``; None when it is not ours, is held, or is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        about = os.fstat(descriptor)
        if about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o077:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(path, follow_symlinks=False).st_ino == about.st_ino:  # not removed meanwhile
                return descriptor
    os.close(descriptor)
    return None
