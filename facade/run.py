"""The facade on its port."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import math
import resource
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from tritonvision.errors import SetupError
from tritonvision.facade.connection import Connection
from tritonvision.facade.middleware.disconnect import OpenRequests
from tritonvision.settings import Settings

_BACKLOG = 2048
_OTHER_FILES = 500  # besides connections: logs, channels, files of models, spooled forms
# Seconds for running requests after the port closed; then they are cancelled.
_FINISH_SECONDS = 10.0
_LAST_SECONDS = 15
# Longer than clients keep idle connections, so that the server never closes one while a client sends.
_KEEP_ALIVE_SECONDS = 75


async def run(app: FastAPI, settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Serve on ``settings.host`` and ``settings.port`` until SIGTERM or Ctrl-C, in the running event loop.

    SIGTERM makes the readiness routes fail at once, while the port still answers for ``settings.drain`` seconds, so
    that load balancers stop sending requests first. Ctrl-C, a second signal and a cancellation close it at once.
    Running requests then have some seconds to finish; the rest end with a 503, or an error event in their stream. A
    signal is raised again after that, as uvicorn does it.

    Args:
        ready: called once the port answers.

    Raises:
        SetupError: the port is taken, or the address is not this machine's.
    """
    _allow_files(settings.max_connections + _OTHER_FILES)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # errors of a picture go to its sender, not to the log
    with listen(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app, http=Connection, ws="none", access_log=False, log_config=None, server_header=False, lifespan="on",
            timeout_graceful_shutdown=_LAST_SECONDS, timeout_keep_alive=_KEEP_ALIVE_SECONDS, proxy_headers=False,
            limit_concurrency=settings.max_connections,
        )  # fmt: skip  # uvicorn's own access log shows query strings, and those may hold a key
        server = _Server(config, app.state.service.requests, settings.drain, ready)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True  # if cancelled here, uvicorn would leave its socket in the loop
            await serving
            raise


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files to ``wanted``, at most the hard limit; each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SetupError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]  # fmt: skip
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise SetupError(f"'{host}' is no address of this machine.", hint="Give another --host.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SetupError(f"Port {port} is taken.", hint="Give another --port.") from error
        if error.errno == errno.EACCES:
            raise SetupError(f"Port {port} needs more rights.", hint="Give a --port over 1023.") from error
        raise SetupError(f"'{host}' is no address of this machine.", hint="Give another --host.") from error
    return listener


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, requests: OpenRequests, drain: float, ready: Callable[[], None] | None
    ):  # fmt: skip
        super().__init__(config)
        self._requests, self._drain, self._ready = requests, drain, ready
        self._ends_at = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            gc.freeze()  # objects of the start live as long as the process; the garbage collector skips them
            if self._ready is not None:
                self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self._drain and not self._requests.draining:
            self._captured_signals.append(sig)
            self._requests.draining = True
            self._ends_at = time.monotonic() + self._drain
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._ends_at:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._requests.draining = True
        ending = asyncio.get_running_loop().call_later(_FINISH_SECONDS, self._requests.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()
