"""Connections of uvicorn with deadlines and bounds for what it itself keeps: headers, trailers, parts of messages."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tritonvision.facade.middleware.write_deadline import ABORT

# The whole of a request's headers, for which the server itself has no limits.
HEADER_SECONDS = 20.0
_MOST_HEADER_BYTES = 64 * 1024
_MOST_HEADERS = 256  # of one request; each lookup of one reads them all
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class State(ServerState):
    """What the connections of a server share.

    Attributes:
        leaving: the server takes no further requests soon: each answer closes its connection, and says so.
    """

    leaving = False


class Connection(HttpToolsProtocol):
    """Disconnects clients that do not send their headers, that send too much beside a body, or that do not read the end
    of an answer.

    Beside a body are headers, extensions of chunks and trailers; the middlewares see none of their bytes.
    """

    _timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0
    _beside = 0  # bytes since the beginning of the request, or since the last ones of its body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio's hook."""
        self._beside += len(data)
        super().data_received(data)
        if self._beside > _MOST_HEADER_BYTES:
            self._refuse()
        elif not self._in_headers:
            self._stop_waiting()
        elif self._timer is None:
            self._wait_for_headers()

    def on_message_begin(self) -> None:
        """The parser's hook: the first byte of a request."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]  # a key of our own
        self._in_headers, self._header_bytes, self._beside = True, 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's hook. Trailers are dropped: nobody reads them, and the headers are in use by then."""
        if self._in_headers:
            self._header_bytes += len(name) + len(value)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser's hook. Raises ValueError of too many headers, which the parser makes a bad request."""
        if self._too_large:
            raise ValueError("too many headers")
        self._in_headers = False
        super().on_headers_complete()
        if isinstance(self.server_state, State) and self.server_state.leaving:
            self.close_after_answer()

    def close_after_answer(self) -> None:
        """Let the answer that has not begun close the connection, and say so; without a request nothing happens.

        A client that is told opens another connection. One whose idle connection is closed may be just sending.
        """
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """The parser's hook."""
        self._beside = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """uvicorn's hook: the answer is written, if not yet taken."""
        super().on_response_complete()
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn's hook. A graceful close would wait for ever for a client that does not read its answer."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's hook."""
        if self._in_headers and self._too_large:
            self._refuse()
        else:
            super().send_400_response(msg)

    @property
    def _too_large(self) -> bool:
        return self._header_bytes > _MOST_HEADER_BYTES or len(self.headers or ()) > _MOST_HEADERS

    def _refuse(self) -> None:
        if self._in_headers:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:  # a handler may be answering
            self.transport.abort()

    def _wait_for_headers(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
