"""One server process after another on one port: the next starts beside the old one, is warmed, and takes over.

The old process, the predecessor, starts its successor with its own command line, so that it runs what is installed now.
Over a socket pair it hands on the listening socket and the ids of its loaded models. The successor loads them, listens
on the same socket and says ``ready``; only then does the predecessor say ``go``, stop accepting and end its work. A
successor that ends or does not get ready changes nothing: the predecessor goes on.

The process id that a container or a service manager knows has to stay. So the first predecessor becomes the steward
(:mod:`tritonvision.server.steward`) when its work is done: a small process that passes signals on and ends with the
status of the process that serves. Later predecessors just end, and the steward becomes the parent of their successors.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tritonvision.errors import SetupError
from tritonvision.settings import environment_of_successor, take_predecessor

_STEWARD = Path(__file__).with_name("steward.py")
_READY, _GO = b"ready\n", b"go\n"
_ENDED_EARLY = "The new server process ended before it was ready; the old one goes on."
# Seconds until a successor has to be ready, all its models loaded.
_PATIENCE = 600.0
_PR_SET_PDEATHSIG = 1


class Predecessor:
    """The process whose port and models this one takes over.

    Attributes:
        listener: the listening socket that both share.
        models: ids of the models that are loaded there.
    """

    def __init__(self, told: str):
        descriptor, self._pid, self.steward = map(int, told.split())
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        _, (listener,), _, _ = socket.recv_fds(self._socket, 1, 1)
        os.set_inheritable(listener, False)
        self.listener = socket.socket(fileno=listener)
        with self._socket.makefile("rb") as told_later:
            self.models: list[str] = json.loads(told_later.readline())

    @classmethod
    def of_this_process(cls) -> Predecessor | None:
        """The predecessor of this process; None where it was started by a person."""
        told = take_predecessor()
        return cls(told) if told else None

    async def relieve(self) -> None:
        """Tell the predecessor that the port is answered here, and return when it is gone; then end with the steward.

        This process ends, too, where the predecessor ended before it had handed over.
        """
        reader, writer = await asyncio.open_unix_connection(sock=self._socket)
        writer.write(_READY)
        if await reader.readline() != _GO:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if self._pid != self.steward:
            os.kill(self.steward, signal.SIGUSR1)  # signals of others come to this process from now on
        await reader.read()  # until the predecessor has ended, or become the steward
        writer.close()
        while os.getppid() == self._pid != self.steward:
            await asyncio.sleep(0.05)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.steward:
            os.kill(os.getpid(), signal.SIGTERM)


class Successor:
    """The process that has taken the port of this one over.

    Attributes:
        pid: its process id.
    """

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket):
        self._process = process
        self.pid = process.pid
        self._connection = connection  # open as long as this process: the successor waits for its end

    @classmethod
    async def start(cls, listener: socket.socket, models: Sequence[str]) -> Successor:
        """Start a process with this one's command line on ``listener`` and return once it answers there.

        Args:
            models: ids of the models that it loads first.

        Raises:
            SetupError: it ended or did not get ready; nothing has changed.
        """
        ours, theirs = socket.socketpair()
        told = f"{theirs.fileno()} {os.getpid()} {_steward or os.getpid()}"
        try:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, *sys.orig_argv[1:]],
                    pass_fds=[theirs.fileno()], env=environment_of_successor(told), stdin=subprocess.DEVNULL,
                )  # fmt: skip
        except OSError as error:
            ours.close()
            raise SetupError(f"No new server process can be started: {error.strerror}; the old one goes on.") from error
        try:
            socket.send_fds(ours, [b"!"], [listener.fileno()])
            ours.sendall(json.dumps(list(models)).encode() + b"\n")
            async with asyncio.timeout(_PATIENCE):
                ready = await _line(ours)
            if ready != _READY:
                raise SetupError(_ENDED_EARLY)
            ours.send(_GO)
        except BaseException as error:
            process.terminate()
            ours.close()
            await asyncio.to_thread(process.wait)
            if isinstance(error, TimeoutError):
                raise SetupError("The new server process did not get ready; the old one goes on.") from error
            if isinstance(error, OSError):  # it has closed the connection
                raise SetupError(_ENDED_EARLY) from error
            raise
        return cls(process, ours)


_steward = 0  # process id of the steward above this process, if there is one


def serve_under(predecessor: Predecessor | None) -> None:
    """Remember the steward that this process has, or will have, from its predecessor."""
    global _steward
    _steward = predecessor.steward if predecessor else 0


def leave(successor: Successor, signals: Sequence[int]) -> None:
    """End this process, or let it become the steward, after ``successor`` took over. Call it in the main thread.

    Args:
        signals: that told this process to end since then; they are meant for the successor.
    """
    for number in signals:
        os.kill(successor.pid, number)
    if not _steward:
        sys.stdout.flush()
        # The steward waits for these signals; what comes before it does must not end the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*signal.valid_signals() - {signal.SIGSEGV, signal.SIGBUS},))
        os.execv(sys.executable, [sys.executable, "-I", "-S", str(_STEWARD), str(successor.pid)])


async def _line(connection: socket.socket) -> bytes:
    connection.setblocking(False)
    loop, said = asyncio.get_running_loop(), b""
    while not said.endswith(b"\n"):
        more = await loop.sock_recv(connection, 64)
        if not more:
            break
        said += more
    return said
