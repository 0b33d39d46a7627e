"""What the control groups of this process leave it: those of a container, a Kubernetes pod or a systemd unit.

Version 2 of the kernel's control groups is read, and version 1, which older hosts have. A group is limited by all
groups above it; those that a container cannot see lie outside of its ``/sys/fs/cgroup``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
# A version 1 group without a limit says the largest number of whole pages.
_NO_LIMIT = 2**62


def cores() -> int:
    """How many processors this process may use at once: those it may run on, or its quota of time, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _folders("cpu") for quota in _quota(folder)]
    return max(1, min([allowed, *(math.ceil(quota) for quota in quotas)]))


def memory_limit() -> int | None:
    """The most bytes that this process and its neighbours in the group may hold; None where nothing limits them."""
    limits = [limit for folder in _folders("memory") for limit in _limit(folder)]
    return min(limits, default=None)


def memory_left() -> int | None:
    """The bytes that are left of it. Files that were not read lately count: the system takes them back first."""
    left = []
    for folder in _folders("memory"):
        for limit in _limit(folder):
            used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
            if used is not None:
                left.append(limit - used + _cached(folder))
    return min(left, default=None)


def _folders(controller: str) -> Iterator[Path]:
    """The groups of this process that may limit it, its own first, then those above."""
    try:
        lines = _OWN.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        root = _MOUNT / controller if controllers else _MOUNT
        folder = root / path.lstrip("/")
        yield folder
        while folder != root:
            folder = folder.parent
            yield folder


def _quota(folder: Path) -> Iterator[float]:
    """Processors' worth of time that a group gets; nothing where it has no quota."""
    try:
        quota, _, period = (folder / "cpu.max").read_text().partition(" ")
    except OSError:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    if quota.strip().isdigit() and int(quota) and period.strip().isdigit() and int(period):  # 'max' and -1: none
        yield int(quota) / int(period)


def _limit(folder: Path) -> Iterator[int]:
    for name in ("memory.max", "memory.limit_in_bytes"):
        limit = _number(folder / name)
        if limit is not None and limit < _NO_LIMIT:
            yield limit


def _cached(folder: Path) -> int:
    """Bytes that hold files which were not read lately."""
    told = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    found = told.get("total_inactive_file", told.get("inactive_file", "0"))  # version 1 counts groups below apart
    return int(found) if found.isdigit() else 0


def _number(path: Path) -> int | None:
    """The number in a file of a group; None where there is none, or ``max``."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
