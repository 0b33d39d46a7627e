"""Heartbeat files: processes of the inference server touch them, and the supervisor finds those that hang.

They also end with the supervisor. A named pipe in its folder, of which it holds the writing end, makes the kernel kill
whoever listens to it when that end closes: a process that waits inside Triton holds Python's lock, and would notice
nothing by itself. Death signals of prctl(2) are of the thread that started a process, and Triton's threads come and go.

Every step touches a file of its own once a second, in the folder that the supervisor named to the tritonserver and so
to the steps, its children. Without a folder there is no supervisor, and no heartbeat.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

BEAT_SECONDS = 1.0
STALE_SECONDS = 6.0
LONGEST_EXECUTE_SECONDS = 60.0
_LONGEST_OF_ALL = 1800.0
_GRAPH_BYTES = 64 * 2**20  # a network gets LONGEST_EXECUTE_SECONDS more for each
FOLDER_VARIABLE = "TRITONVISION_SERVER_FOLDER"
_OWNER = "owner"
_F_SETSIG = 10  # fcntl(2); Python has no name for it
# Of a longer pause between two checks only this much counts: the watcher itself was not running.
_LONGEST_LOOK = 2.0


def folder() -> Path | None:
    """The private folder of the tritonserver that this process belongs to, None where nobody watches.

    A folder that is a link, or that another user owns or can enter, is none.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    if not given:
        return None
    try:
        about = os.lstat(given)
    except OSError:
        return None
    private = about.st_uid == os.geteuid() and not stat.S_IMODE(about.st_mode) & 0o077
    return Path(given) if stat.S_ISDIR(about.st_mode) and private else None


def make_owner(folder: Path) -> int:
    """A descriptor for the supervisor: while it is open, processes that :func:`end_with_owner` in ``folder`` live."""
    os.mkfifo(folder / _OWNER, 0o600)
    return os.open(folder / _OWNER, os.O_RDWR | os.O_CLOEXEC)


def end_with_owner(folder: Path) -> None:
    """From now on the kernel kills this process when the supervisor of ``folder`` is gone."""
    try:
        descriptor = os.open(folder / _OWNER, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a supervisor of before, or one that has just ended
        return
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)


def longest_work(files: Path) -> float:
    """Seconds that a step may take for one batch; grows with the size of its model's folder ``files``.

    A large network on a busy machine needs minutes for eight pictures and must not count as hanging. At most half an
    hour.
    """
    size = sum(path.stat().st_size for path in files.rglob("*") if path.is_file())
    return min(LONGEST_EXECUTE_SECONDS * (1 + size / _GRAPH_BYTES), _LONGEST_OF_ALL)


class Watch:
    """Finds processes whose heartbeat has stopped.

    Only time in which the watcher itself ran counts, so pausing a container, suspending the machine or setting the
    clock makes no process late.

    Args:
        beats: the folder of a tritonserver.
    """

    def __init__(self, beats: Path):
        self._beats = beats
        self._awake = 0.0
        self._looked = time.monotonic()
        self._last: dict[int, tuple[int, float]] = {}  # process id -> its beat, and when that was first seen

    def stale(self) -> list[int]:
        """Process ids of the steps without a heartbeat for STALE_SECONDS. Call it about once a second."""
        now = time.monotonic()
        self._awake += min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        beats = dict(_read_beats(self._beats))
        before = self._last
        self._last = {
            pid: before[pid] if pid in before and before[pid][0] == beat else (beat, self._awake)
            for pid, beat in beats.items()
        }
        return [pid for pid, (_, since) in self._last.items() if self._awake - since > STALE_SECONDS]


def _read_beats(beats: Path) -> Iterator[tuple[int, int]]:
    for path in beats.glob("[0-9]*"):
        try:
            yield int(path.name), path.stat().st_mtime_ns
        except FileNotFoundError:  # removed between listing and stat
            continue


_own: Heart | None = None


@contextmanager
def waiting() -> Iterator[None]:
    """:meth:`Heart.waiting` of this process, if it has a heartbeat."""
    with nullcontext() if _own is None else _own.waiting():
        yield


class Heart:
    """The heartbeat of this process; as a context manager it times a piece of work of the calling thread.

    Work over its time limit stops the heartbeat, so a process with one stuck thread is replaced, too.

    Args:
        longest: seconds that a piece of work, or a step of it, may take.
    """

    def __init__(self, longest: float = LONGEST_EXECUTE_SECONDS) -> None:
        self._parent = os.getppid()
        self._longest = longest
        self._busy_since: dict[int, float] = {}  # by thread
        global _own
        _own = self
        beats = folder()
        if beats is not None:
            end_with_owner(beats)
            self._file = beats / str(os.getpid())
            try:
                self._file.touch()
            except OSError:  # a full disk; without a file the process serves, and its hanging is not noticed
                return
            threading.Thread(target=self._beat, daemon=True, name="heartbeat").start()

    def __enter__(self) -> None:
        self._busy_since[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._busy_since.pop(threading.get_ident(), None)

    def step(self) -> None:
        """Begin the next step of a long piece of work; each step has the whole time."""
        if threading.get_ident() in self._busy_since:
            self._busy_since[threading.get_ident()] = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Within the block this process waits for another one with its own heartbeat: the time does not count."""
        before = self._busy_since.pop(threading.get_ident(), None)
        try:
            yield
        finally:
            if before is not None:
                self._busy_since[threading.get_ident()] = time.monotonic()

    def _beat(self) -> None:
        while True:
            if os.getppid() != self._parent:  # the server is gone
                os._exit(1)
            oldest = min(self._busy_since.copy().values(), default=time.monotonic())
            if time.monotonic() - oldest < self._longest:
                try:
                    os.utime(self._file)
                except FileNotFoundError:  # the supervisor is gone, and its folder removed
                    return
            time.sleep(BEAT_SECONDS)
