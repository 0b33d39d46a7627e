"""The steward passes signals on to the process that serves, whichever that is now, and ends with its status."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tritonvision.server import steward

# Starts a worker, as a server has its successor, and becomes the steward.
_FIRST = f"""
import os, signal, subprocess, sys
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD])
os.execv(sys.executable, [sys.executable, "-I", "-S", {steward.__file__!r}, str(worker.pid)])
"""
# Ends at SIGTERM with the status of its name, says when it can, and tells of SIGUSR2.
_WORKER = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit({status}))
signal.signal(signal.SIGUSR2, lambda *_: print("asked {status}", flush=True))
print("up {status}", flush=True)
"""
_WAITS = "while True: signal.pause()\n"
# A worker that hands on: its child takes over, and it ends.
_HANDS_ON = (
    _WORKER.format(status=5)
    + f"""
import subprocess
told = "import os, signal; os.kill(int(" + repr(str(os.getppid())) + "), signal.SIGUSR1)\\n"
subprocess.Popen([sys.executable, "-c", {_WORKER.format(status=9)!r} + told + {_WAITS!r}])
signal.pause()
"""
)


@pytest.fixture
def begin() -> Iterator[Callable[[str], subprocess.Popen]]:
    """``begin(worker)``: the process that becomes the steward of the program ``worker``."""
    begun: list[subprocess.Popen] = []

    def start(worker: str) -> subprocess.Popen:
        begun.append(subprocess.Popen([sys.executable, "-c", _FIRST, worker], stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()
        process.stdout.close()


def test_it_ends_as_its_worker_ends(begin):
    assert begin("raise SystemExit(7)").wait(20) == 7
    assert begin("import os; os.kill(os.getpid(), 9)").wait(20) == 128 + 9


def test_it_passes_signals_on(begin):
    first = begin(_WORKER.format(status=5) + _WAITS)
    assert first.stdout.readline() == "up 5\n"
    first.send_signal(signal.SIGUSR2)
    assert first.stdout.readline() == "asked 5\n"
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 5


def test_a_worker_that_took_over_gets_the_signals_and_gives_the_status(begin):
    first = begin(_HANDS_ON)
    assert {first.stdout.readline() for _ in range(2)} == {"up 5\n", "up 9\n"}
    while True:
        first.send_signal(signal.SIGUSR2)  # the former worker ends at the first one that it still gets
        if first.stdout.readline() == "asked 9\n":
            break
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 9
