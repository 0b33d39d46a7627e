"""How much memory is free for more, of the machine or of the container that this process is in."""

from __future__ import annotations

import os
from pathlib import Path

from tritonvision import cgroups

_PROC = Path("/proc/meminfo")
# Of the memory: the HTTP server and an empty tritonserver, and a part for pictures that are being answered.
_SERVERS = 400 * 2**20
_FOR_MODELS = 0.85


def free() -> int:
    """Bytes that can be taken before the system ends processes; what it only caches files in counts, as does swap."""
    left = cgroups.memory_left()
    found = _of_machine()
    return max(found if left is None else min(found, left), 0)


def budget() -> int:
    """Bytes that loaded models may be reckoned at together: most of a container's limit, else of the machine's memory.

    A container over its limit is killed as a whole, and of a machine without memory whichever process is largest; so
    models leave for others before.
    """
    whole = cgroups.memory_limit() or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(int(_FOR_MODELS * whole) - _SERVERS, 1)


def _of_machine() -> int:
    try:
        lines = (line.partition(":") for line in _PROC.read_text().splitlines())
        told = {name: int(value.split()[0]) * 1024 for name, _, value in lines if value.split()}
        return told["MemAvailable"] + told.get("SwapFree", 0)
    except (OSError, ValueError, KeyError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
