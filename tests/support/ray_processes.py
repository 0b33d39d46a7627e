"""Processes of a Ray cluster and of the commands that use it: found, started, waited for."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

TREE = Path(__file__).parents[2]


def wait_for(what: Callable[[], object], seconds: float = 90.0) -> object:
    """What ``what`` gives, as soon as that is true."""
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.01)
    assert found
    return found


def processes(name: str) -> list[int]:
    """Processes whose command line begins with ``name``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(name.encode()):
                found.append(int(path.parent.name))
        except OSError:  # it ended
            continue
    return found


def started(line: list[str]) -> subprocess.Popen:
    """The command, with what it prints."""
    return subprocess.Popen(line, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
