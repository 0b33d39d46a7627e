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
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType

import uvicorn
from fastapi import FastAPI
from uvicorn.config import WSProtocolType

from tritonvision.errors import SetupError
from tritonvision.facade.connection import Connection, State
from tritonvision.facade.middleware.disconnect import OpenRequests
from tritonvision.facade.security.access import Access
from tritonvision.facade.security.tls import Certificates
from tritonvision.settings import Settings

log = logging.getLogger(__name__)

_BACKLOG = 2048
_OTHER_FILES = 500  # besides connections: logs, channels, files of models, spooled forms
# Seconds for running requests after the port closed; then they are cancelled.
_FINISH_SECONDS = 10.0
_LAST_SECONDS = 15
# Seconds that a process whose port was handed on keeps idle connections, and runs the longest of its requests.
_IDLE_SECONDS = 10.0
_LONGEST_SECONDS = 60.0
# Longer than clients keep idle connections, so that the server never closes one while a client sends.
_KEEP_ALIVE_SECONDS = 75
_TICKS_TO_LOOK = 100  # uvicorn ticks ten times a second: a new certificate is seen after ten seconds at most


async def run(
    app: FastAPI, settings: Settings, *, ready: Callable[[], None] | None = None,
    hangup: Callable[[], None] | None = None,
    listener: socket.socket | None = None, hand_on: Callable[[socket.socket], Awaitable[bool]] | None = None,
) -> None:  # fmt: skip
    """Serve on ``settings.host`` and ``settings.port`` until SIGTERM or Ctrl-C, in the running event loop.

    SIGTERM makes the readiness routes fail at once, while the port still answers for ``settings.drain`` seconds, so
    that load balancers stop sending requests first; each answer then closes its connection. Ctrl-C, a second signal
    and a cancellation close the port at once. Running requests then have some seconds to finish; the rest end with a
    503, or an error event in their stream. A signal is raised again after that, as uvicorn does it. SIGHUP reads the
    keys and the certificate again, where they come from files.

    Args:
        ready: called once the port answers.
        hangup: called at SIGHUP, too.
        listener: a listening socket, instead of a new one.
        hand_on: called with the listening socket at SIGUSR2; once it returns True, another process answers the port,
            and this one ends when its connections have.

    Raises:
        SetupError: the port is taken, or the address is not this machine's; the certificate does not fit.
    """
    service, certificates = app.state.service, certificates_of(settings)
    _allow_files(settings.max_connections + _OTHER_FILES)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # errors of a picture go to its sender, not to the log
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # its lines about sockets show query strings, too
    with listener or listen(settings.host, settings.port) as listener:
        config = uvicorn.Config(
            app, http=Connection, ws=_sockets(), ws_max_size=settings.max_body_bytes, ws_per_message_deflate=False,
            access_log=False, log_config=None, server_header=False, lifespan="on", proxy_headers=False,
            timeout_graceful_shutdown=_LAST_SECONDS, timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            limit_concurrency=settings.max_connections,
        )  # fmt: skip  # uvicorn's own access log shows query strings, and those may hold a key
        config.load()
        if certificates is not None:
            config.ssl = certificates.context  # of uvicorn's own nothing could be loaded again
        server = _Server(config, service.requests, settings.drain, ready, certificates)
        hung_up = _reloaded_on_hangup(settings, service.access, certificates, hangup)
        with hung_up, _handed_on(server, listener, hand_on):
            serving = asyncio.ensure_future(server.serve(sockets=[listener]))
            try:
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                server.should_exit = True  # if cancelled here, uvicorn would leave its socket in the loop
                await serving
                raise


@contextmanager
def _handed_on(
    server: _Server, listener: socket.socket, hand_on: Callable[[socket.socket], Awaitable[bool]] | None
) -> Iterator[None]:  # fmt: skip
    """Within the block SIGUSR2 hands the port on; after it, nothing happens."""
    if hand_on is None:
        yield
        return
    loop, handing_on = asyncio.get_running_loop(), server.handing_on(hand_on, listener)
    signal.signal(signal.SIGUSR2, lambda *_: loop.call_soon_threadsafe(handing_on))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR2, lambda *_: None)


def certificates_of(settings: Settings) -> Certificates | None:
    """The certificate of the settings; None where there is none. Raises SetupError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificates(settings.tls_cert, settings.tls_key)


@contextmanager
def _reloaded_on_hangup(
    settings: Settings, access: Access, certificates: Certificates | None, hangup: Callable[[], None] | None
) -> Iterator[None]:
    """Within the block SIGHUP reads files again. Without such files it ends the process, as it does by default."""

    def reload() -> None:
        access.reload()
        if certificates is not None:
            certificates.reload()
        if hangup is not None:
            hangup()

    files = settings.keys_file is not None or certificates is not None or hangup is not None
    if not files or threading.current_thread() is not threading.main_thread():  # only that one may take signals
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _sockets() -> WSProtocolType | type[asyncio.Protocol]:
    """What speaks WebSocket. An environment made before there were streams lacks the package; no other route needs it.
    """
    if not find_spec("websockets"):
        return "none"
    from tritonvision.facade.sockets import Socket

    return Socket


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files to ``wanted``, at most the hard limit; each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A listening socket. Raises SetupError, whose hint names the ``option`` that gave the port."""
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
            raise SetupError(f"Port {port} is taken.", hint=f"Give another {option}.") from error
        if error.errno == errno.EACCES:
            raise SetupError(f"Port {port} needs more rights.", hint=f"Give a {option} over 1023.") from error
        raise SetupError(f"'{host}' is no address of this machine.", hint="Give another --host.") from error
    return listener


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, requests: OpenRequests, drain: float, ready: Callable[[], None] | None,
        certificates: Certificates | None,
    ):  # fmt: skip
        super().__init__(config)
        self.server_state: State = State()
        self._requests, self._drain, self._ready, self._certificates = requests, drain, ready, certificates
        self._ends_at = math.inf
        self._handing_on: asyncio.Task[None] | None = None
        self._handed_on_at = math.inf

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
            self._leave_connections()
        else:
            super().handle_exit(sig, frame)

    def handing_on(
        self, hand_on: Callable[[socket.socket], Awaitable[bool]], listener: socket.socket
    ) -> Callable[[], None]:  # fmt: skip
        """A function that hands the port on, once at a time, and lets this server end after that."""

        async def work() -> None:
            if await hand_on(listener):
                self._handed_on_at = time.monotonic()
                for server in self.servers:
                    server.close()
                self._leave_connections()
            else:
                self._handing_on = None

        def begin() -> None:
            if self._handing_on is not None:
                log.warning("The port is being handed on already.")
            elif self.started and not self.should_exit:
                self._handing_on = asyncio.create_task(work())

        return begin

    def _leave_connections(self) -> None:
        """Let every answer from now on close its connection. Idle connections stay: their next request is answered."""
        self.server_state.leaving = True
        for connection in self.server_state.connections:
            if isinstance(connection, Connection):
                connection.close_after_answer()

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._ends_at or self._done_after_handing_on():
            self.should_exit = True
        if self._certificates is not None and counter % _TICKS_TO_LOOK == 0:
            self._certificates.look()
        return await super().on_tick(counter)

    def _done_after_handing_on(self) -> bool:
        seconds = time.monotonic() - self._handed_on_at
        if seconds < 0:
            return False
        idle = not self._requests and seconds > _IDLE_SECONDS
        return not self.server_state.connections or idle or seconds > _LONGEST_SECONDS

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._requests.draining = True
        if self._handing_on is not None:
            self._handing_on.cancel()
        ending = asyncio.get_running_loop().call_later(_FINISH_SECONDS, self._requests.end_all)
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()
