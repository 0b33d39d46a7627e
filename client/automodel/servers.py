"""AutoModel's connections, one a process for each server, and the tritonserver that this process starts."""

from __future__ import annotations

import atexit
import logging
import os
import re
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from tritonvision.client.background import Background, Pieces
from tritonvision.client.connections import Connection, EngineConnection, ForeignConnection
from tritonvision.client.remote.connection import FacadeConnection
from tritonvision.engine.engine import Engine
from tritonvision.errors import InvalidParameter, ServerUnavailable
from tritonvision.server import Embedded
from tritonvision.settings import Settings

log = logging.getLogger("tritonvision")

T = TypeVar("T")

_GRPC = re.compile(r"grpc://(?P<address>unix:/[^?#\s]+|[^/@?#\s]+:\d{1,5})/?")  # a Unix socket too
_HTTP = re.compile(r"https?://[^\s]+")


class Servers:
    """Connections by server and key. All are closed at exit, or by :meth:`close`."""

    def __init__(self) -> None:
        self.background = Background()
        self._lock = threading.RLock()
        self._open: dict[tuple[str, str | None, str], Connection] = {}
        self._embedded: Embedded | None = None
        self._owner = 0

    def connection(self, settings: Settings, api_key: str | None, organization: str = "") -> Connection:
        """The connection to ``settings.server``; without one, to a tritonserver that this process starts.

        Args:
            organization: whose requests they are, which a facade is told.

        Raises:
            InvalidParameter: ``server`` is no address.
            SetupError: a tritonserver cannot run on this machine.
        """
        server = settings.server or ""
        key = (server, api_key, organization) if is_http(server) else (server, None, "")
        with self._lock:
            if key not in self._open:
                if not self._open:
                    atexit.register(self.close)
                    self._owner = os.getpid()
                self._open[key] = self._connect(server, api_key, organization, settings)
            return self._open[key]

    def run(self, connection: Connection, ask: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        """The result of ``ask`` over ``connection``. Raises ServerUnavailable after :meth:`close`."""
        self._check(connection)
        return self.background.run(ask(connection))

    def iterate(
        self, connection: Connection, ask: Callable[[Connection], AsyncGenerator[T, None]]
    ) -> Pieces[T]:  # fmt: skip
        """As :meth:`run`, for a stream; closing the iterator cancels it."""
        self._check(connection)
        return self.background.iterate(ask(connection))

    def _check(self, connection: Connection) -> None:
        if connection not in self._open.values():
            raise ServerUnavailable(
                "The connection of this model was closed.", hint="Make the model again with AutoModel.from_pretrained."
            )

    def close(self) -> None:
        """Drop every connection and stop our own server. The next call connects again."""
        with self._lock:
            connections, self._open = list(self._open.values()), {}
            embedded, self._embedded = self._embedded, None
            if connections and self._owner == os.getpid():  # after a fork they belong to the parent process
                atexit.unregister(self.close)
                try:
                    for connection in connections:
                        self.background.run(connection.close())
                finally:
                    if embedded is not None:
                        embedded.stop()
                    self.background.close()

    def _connect(self, server: str, api_key: str | None, organization: str, settings: Settings) -> Connection:
        if is_http(server):
            return self.background.run(FacadeConnection(server, api_key, say, organization).open())
        if server:
            address = grpc_address(server)
            engine = Engine(settings.model_copy(update={"triton_url": address}))
            self.background.run(engine.start())
            return ForeignConnection(engine, address, say)
        # from_pretrained publishes a missing model, with visible progress, so the engine need not. Only this process
        # waits for an answer, so the deadline is long.
        wait_timeout = max(settings.deadline, settings.stream_idle_timeout)
        settings = settings.model_copy(update={"export_missing": False, "deadline": wait_timeout})
        embedded = Embedded(settings)
        try:
            embedded.start()
            engine = Engine(settings, embedded)
            self.background.run(engine.start())
        except BaseException:  # also at Ctrl-C, so that no server is left running
            embedded.stop()
            raise
        self._embedded = embedded
        return EngineConnection(engine, say)


SERVERS = Servers()  # of this process


def is_http(server: str) -> bool:
    """Whether it is the address of a facade. Raises InvalidParameter if it is no address."""
    if not server or _GRPC.fullmatch(server):
        return False
    if _HTTP.fullmatch(server):
        return True
    raise InvalidParameter(
        f"'{server[:60]}' is no server.", hint="Give http://HOST:PORT of 'tritonvision serve', or grpc://HOST:PORT."
    )


def grpc_address(server: str) -> str:
    """``host:port`` of ``grpc://host:port``, ``unix:PATH`` of ``grpc://unix:PATH``."""
    found = _GRPC.fullmatch(server)
    assert found is not None, "is_http refuses what is no address"
    return found["address"]


def say(sentence: str) -> None:
    """Tell the user something, as a warning of the logger ``tritonvision``, by default on standard error."""
    log.warning("%s", sentence)
