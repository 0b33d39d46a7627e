"""What the Python steps of our tritonserver tell of single requests: which, and from when to when they worked on it.

Triton itself counts sums alone. The steps write a line a request into a named pipe in the server's private folder; a
line is one write(2) of less than 4096 bytes, so lines do not mix, pipe(7). A step never waits: what finds the pipe
full is lost. Only requests whose caller gave them an id of :func:`new_id` are told of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import threading
from pathlib import Path

from tritonvision import heartbeat
from tritonvision.stages import Stage, kind_of

_NAME = "steps"
_PIPE_BYTES = 2**20  # what a user may ask for without privileges, pipe(7): ten thousand lines
_READ = 2**16
_PREFIX = "tv"
_HEX = 16


def new_id() -> str:
    """An id for a request to Triton, by which steps tell of it."""
    return _PREFIX + secrets.token_hex(_HEX // 2)


def _is_ours(request_id: str) -> bool:
    return request_id.startswith(_PREFIX) and len(request_id) == len(_PREFIX) + _HEX and request_id.isalnum()


class Pipe:
    """The reading end, which the owner of the server holds.

    Args:
        folder: of the server, see :func:`tritonvision.heartbeat.folder`.

    Raises:
        OSError: the pipe cannot be made.
    """

    def __init__(self, folder: Path):
        path = folder / _NAME
        os.mkfifo(path, 0o600)
        self._lock = threading.Lock()
        # also for writing: else it would be at its end whenever no step has it open
        self._pipe: int | None = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # the kernel's limits for this user
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def read(self) -> bytes:
        """What was written since the last call; empty once it is closed."""
        found = []
        with self._lock, contextlib.suppress(BlockingIOError):
            while self._pipe is not None and (part := os.read(self._pipe, _READ)):
                found.append(part)
        return b"".join(found)

    def close(self) -> None:
        """Close it. Idempotent."""
        with self._lock:
            if self._pipe is not None:
                os.close(self._pipe)
                self._pipe = None


class Teller:
    """The writing end, in a step; does nothing where nobody reads."""

    def __init__(self) -> None:
        folder = heartbeat.folder()
        self._pipe: int | None = None
        if folder is not None:
            with contextlib.suppress(OSError):  # a server that no version with such a pipe has started
                # also for reading: a write without any reader would be an error
                self._pipe = os.open(folder / _NAME, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def tell(self, request_id: str, model: str, began: int, ended: int) -> None:
        """Tell that the Triton model ``model`` worked on a request, nanoseconds of the monotonic clock."""
        if self._pipe is not None and _is_ours(request_id):
            with contextlib.suppress(OSError):  # full
                os.write(self._pipe, f"{request_id} {model} {began} {ended}\n".encode())


def parse(line: bytes) -> tuple[str, Stage] | None:
    """The request and the stage that a line tells of; None of what is no such line."""
    try:
        request_id, model, began, ended = line.decode().split(" ")
        return request_id, Stage(kind_of(model), int(began), int(ended), model)
    except ValueError:
        return None
