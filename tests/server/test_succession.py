"""A successor that cannot be started, or ends at once, changes nothing and is one sentence."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys

import pytest

from tritonvision.errors import SetupError
from tritonvision.server.succession import Successor


def start(listener: socket.socket) -> None:
    asyncio.run(Successor.start(listener, ["eyes"] * 100_000))


def test_a_successor_that_cannot_be_started_is_said(monkeypatch):
    def no_memory(*_, **__):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(subprocess, "Popen", no_memory)
    with socket.socket() as listener:
        before = set(os.listdir("/proc/self/fd"))  # what other tests left may close meanwhile
        with pytest.raises(SetupError, match="No new server process can be started: Cannot allocate memory"):
            start(listener)
        assert not set(os.listdir("/proc/self/fd")) - before


def test_a_successor_that_ends_before_it_is_told_anything_is_said(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", "raise SystemExit(3)"])
    with socket.socket() as listener, pytest.raises(SetupError, match="ended before it was ready; the old one goes on"):
        start(listener)
