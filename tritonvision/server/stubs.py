"""The Python processes below a tritonserver: found, with the model of each, and cleaned up."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_INSTANCE = re.compile(r"(?P<model>.+)_\d+_\d+")
_SHARED_MEMORY = Path("/dev/shm")
_REGIONS = "regions"
# Instances of models that a server may keep of processes that are gone, before it counts as worn.
MOST_HELD = 16


@dataclass(frozen=True)
class Stub:
    """One Python process.

    Attributes:
        pid: process id.
        model: Triton name of the model it serves.
        region: name of its shared-memory region.
    """

    pid: int
    model: str
    region: str


def of_server(server_pid: int) -> dict[int, Stub]:
    """The living stubs of a tritonserver, by process id.

    Found by the parent of every process: the kernel's list of children may miss some, proc(5).
    """
    found = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and _parent(entry.path) == server_pid:
            stub = _read(int(entry.name))
            if stub is not None:
                found[stub.pid] = stub
    return found


def _parent(process: str) -> int | None:
    try:
        with open(f"{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:  # it ended meanwhile
        return None


def _read(pid: int) -> Stub | None:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except OSError:
        return None
    if len(arguments) < 4 or not arguments[0].endswith("triton_python_backend_stub"):
        return None
    instance = next(filter(None, map(_INSTANCE.fullmatch, reversed(arguments))), None)
    return None if instance is None else Stub(pid, instance["model"], arguments[2])


def held_of_ended(server_pid: int) -> int:
    """Regions of shared memory that a tritonserver still holds of processes that are gone.

    A model is never let go where one of its processes ended while it worked: Triton's Python backend (2.51) keeps what
    it wanted to answer the request with. Each region is that of an instance, which also has 34 threads and a megabyte.
    """
    held = 0
    with contextlib.suppress(OSError):  # it ended meanwhile
        for descriptor in os.scandir(f"/proc/{server_pid}/fd"):
            with contextlib.suppress(OSError):
                path = os.readlink(descriptor.path)
                held += path.startswith(f"{_SHARED_MEMORY}/") and path.endswith(" (deleted)")
    return held


def worn(server_pid: int) -> bool:
    """Whether a tritonserver keeps so much of processes that ended that another one should take its place."""
    return held_of_ended(server_pid) > MOST_HELD


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def end(stub: Stub) -> None:
    """Kill the process, if its id was not reused for another one."""
    if _read(stub.pid) == stub:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stub.pid, signal.SIGKILL)


def remember(folder: Path, stubs: dict[int, Stub]) -> None:
    """Record the shared-memory regions in a server's folder, for the clean-up after it was killed.

    They are for this user alone; the sandbox sees to that from the start, where the kernel lets it.
    """
    for stub in stubs.values():
        with contextlib.suppress(OSError):
            (_SHARED_MEMORY / stub.region).chmod(0o600)
    with contextlib.suppress(OSError):  # the folder is gone, or the disk is full
        (folder / _REGIONS).write_text("\n".join(stub.region for stub in stubs.values()))


def forget(folder: Path, stub: Stub) -> None:
    """Remove the shared memory and the heartbeat of a dead stub."""
    (_SHARED_MEMORY / stub.region).unlink(missing_ok=True)
    (folder / str(stub.pid)).unlink(missing_ok=True)


def clean_up(run_folders: Iterable[Path]) -> None:
    """Remove run folders, and the shared memory that the servers in them recorded."""
    for folder in run_folders:
        for server in folder.iterdir():
            with contextlib.suppress(OSError):
                for region in (server / _REGIONS).read_text().split():
                    if os.sep not in region:
                        (_SHARED_MEMORY / region).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
