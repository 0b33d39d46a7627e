"""The facade on its port."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from tritonvision.errors import SetupError
from tritonvision.settings import Settings

_BACKLOG = 2048
_FINISH_SECONDS = 10
# Longer than clients keep an idle connection, so that it is they who close it and not we while they send.
_KEEP_ALIVE_SECONDS = 75


async def run(app: FastAPI, settings: Settings, *, ready: Callable[[], None] | None = None) -> None:
    """Answer on ``settings.host`` and ``settings.port`` until SIGTERM or Ctrl-C, in the running event loop.

    A signal or a cancellation lets requests under way finish; a signal is raised again after that, as uvicorn does it.

    Args:
        ready: called once the port answers.

    Raises:
        SetupError: the port is taken, or the address is not this machine's.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what is wrong with a picture is told to its sender
    with listen(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app, access_log=False, log_config=None, server_header=False, lifespan="on",
            timeout_graceful_shutdown=_FINISH_SECONDS, timeout_keep_alive=_KEEP_ALIVE_SECONDS, proxy_headers=False,
        )  # fmt: skip  # uvicorn's own access log shows query strings, and those may hold a key
        server = _Server(config, ready)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True  # cancelled in the middle, uvicorn would leave its socket in the loop
            await serving
            raise


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
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None):
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            gc.freeze()  # what is here now stays; the collector need not look at it again and again
            if self._ready is not None:
                self._ready()
