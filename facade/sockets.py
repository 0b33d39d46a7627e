"""WebSockets of uvicorn that count a message against the budgets of request bytes while it arrives."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

from tritonvision.errors import Overloaded, PictureTooLarge
from tritonvision.facade.admission import ByteReservation

_UNREADABLE = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Socket(WebSocketsSansIOProtocol):
    """Closes a socket whose message goes over a limit; uvicorn alone keeps a part of one for every connection.

    All bytes since the last whole message count, pings too.
    """

    _held: ByteReservation

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's hook."""
        super().connection_made(transport)
        self._held = ByteReservation(self.config.app.state.service.admission)  # type: ignore[union-attr]

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's hook."""
        self._held.__exit__()
        super().connection_lost(exc)

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
