"""A connection of uvicorn with deadlines for the headers of a request and for the end of an answer."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tritonvision.facade.middleware.write_deadline import ABORT

# The whole of a request's headers, for which the server itself has no limits.
HEADER_SECONDS = 20.0
_MOST_HEADER_BYTES = 64 * 1024
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Connection(HttpToolsProtocol):
    """Disconnects clients that do not send their headers, and those that do not read the end of an answer."""

    _timer: asyncio.TimerHandle | None = None
    _in_headers = True
    _header_bytes = 0

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
        super().data_received(data)
        if not self._in_headers:
            self._stop_waiting()
            return
        self._header_bytes += len(data)
        if self._header_bytes > _MOST_HEADER_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._timer is None:
            self._wait_for_headers()

    def on_message_begin(self) -> None:
        """The parser's hook: the first byte of a request."""
        super().on_message_begin()
        self.scope[ABORT] = self.transport.abort  # type: ignore[literal-required]  # a key of our own
        self._in_headers, self._header_bytes = True, 0

    def on_headers_complete(self) -> None:
        """The parser's hook."""
        self._in_headers = False
        super().on_headers_complete()

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

    def _wait_for_headers(self) -> None:
        self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
