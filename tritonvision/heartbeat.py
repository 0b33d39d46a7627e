"""How a process of the inference server shows that it is well, and how its supervisor sees that it is not.

Every step touches a file of its own once a second. The folder is made by the supervisor and named after the
tritonserver process, the parent of the steps; where there is none, nobody watches and nothing beats.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BEAT_SECONDS = 1.0
STALE_SECONDS = 6.0
LONGEST_EXECUTE_SECONDS = 60.0
_PREFIX = "tritonvision-"


def folder(server_pid: int) -> Path:
    """Where the steps of the tritonserver process ``server_pid`` beat."""
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{server_pid}"


def abandoned() -> list[Path]:
    """Folders of tritonserver processes that are gone."""
    found = []
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX)
        if pid.isdigit() and not _lives(pid):
            found.append(path)
    return found


def _lives(pid: str) -> bool:
    """Whether the process is there and no zombie, whose command line is empty."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def stale(server_pid: int) -> list[int]:
    """Process ids of the steps that have not beaten for too long."""
    oldest = time.time() - STALE_SECONDS
    late = []
    for path in folder(server_pid).glob("[0-9]*"):
        try:
            if path.stat().st_mtime < oldest:
                late.append(int(path.name))
        except FileNotFoundError:  # removed between the listing and the look
            continue
    return late


class Heart:
    """Beats for this process from now on; as a context manager it marks one piece of work of the calling thread.

    Work that takes longer than LONGEST_EXECUTE_SECONDS stops the beat, so a process of which one thread is stuck is
    replaced like one that hangs as a whole.
    """

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._busy_since: dict[int, float] = {}  # by thread
        self._file = folder(self._parent) / str(os.getpid())
        if self._file.parent.is_dir():
            self._file.touch()
            threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def __enter__(self) -> None:
        self._busy_since[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._busy_since.pop(threading.get_ident(), None)

    def step(self) -> None:
        """One more step of a long piece of work begins: each has the whole time."""
        if threading.get_ident() in self._busy_since:
            self._busy_since[threading.get_ident()] = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within it this process waits for another one, which answers for itself: that is no work of its own."""
        before = self._busy_since.pop(threading.get_ident(), None)
        try:
            yield
        finally:
            if before is not None:
                self._busy_since[threading.get_ident()] = time.monotonic()

    def _beat(self) -> None:
        while True:
            if os.getppid() != self._parent:  # an orphan has nobody to answer to
                os._exit(1)
            oldest = min(self._busy_since.copy().values(), default=time.monotonic())
            if time.monotonic() - oldest < LONGEST_EXECUTE_SECONDS:
                try:
                    os.utime(self._file)
                except FileNotFoundError:  # the supervisor is gone, and with it the folder
                    return
            time.sleep(BEAT_SECONDS)
