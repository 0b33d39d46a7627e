"""WebSockets of uvicorn whose messages count against the budgets of request bytes, and whose readers may not stall."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

from tritonvision.errors import Overloaded, PictureTooLarge
from tritonvision.facade.admission import ByteReservation

_UNREADABLE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Socket(WebSocketsSansIOProtocol):
    """Closes a socket whose message goes over a limit; uvicorn alone keeps a part of one for every connection.

    All bytes since the last whole message count, pings too. A client that reads nothing is disconnected; uvicorn alone
    would wait for ever until it has what was written before the close.
    """

    _held: ByteReservation
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        super().connection_made(transport)
        service = self.config.app.state.service  # type: ignore[union-attr]
        self._held, self._write_timeout = ByteReservation(service.admission), service.settings.write_timeout

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook."""
        self._held.__exit__()
        self._reads_again()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """asyncio's hook: more is written than the client has read."""
        super().pause_writing()
        self._stalled = self.loop.call_later(self._write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        """asyncio's hook."""
        self._reads_again()
        super().resume_writing()

    async def run_asgi(self) -> None:
        """uvicorn's hook: the handler, after which the connection is closed."""
        await super().run_asgi()
        self.loop.call_later(self.close_timeout, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        """asyncio's hook."""
        try:
            if self.handshake_initiated:
                self._held.take(len(data))
        except PictureTooLarge as error:
            self._end(CloseCode.MESSAGE_TOO_BIG, error.message)
        except Overloaded as error:
            self._end(CloseCode.TRY_AGAIN_LATER, error.message)
        else:
            super().data_received(data)
            if not self.handshake_initiated and self.conn.handshake_exc is not None:
                self._refuse()

    def send_receive_event_to_app(self) -> None:
        """uvicorn's hook: a message is whole. From here on the route counts it."""
        self._held.__exit__()
        super().send_receive_event_to_app()

    def _reads_again(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _refuse(self) -> None:
        """An opening that cannot be read: uvicorn would leave the connection as it is, for ever."""
        self.transport.write(_UNREADABLE)
        self.close_sent = self.handshake_complete = True
        self.transport.close()

    def _end(self, code: CloseCode, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.transport.close()
