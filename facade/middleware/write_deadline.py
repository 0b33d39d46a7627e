"""Disconnects clients that read an answer too slowly."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.facade.context import Context, context_of
from tritonvision.facade.middleware.body_limits import SLOWEST

# Bytes passed to the server at once. It buffers one piece and waits before the next, so a client that reads nothing
# keeps the request and its admission until the deadline.
_PIECE = 64 * 1024
# A function in the scope that closes the connection without flushing its buffer (see run.py).
ABORT = "tritonvision.abort"


class WriteDeadline:
    """Writes answers piece by piece and disconnects a client that stalls or is too slow.

    Args:
        timeout: seconds that the client may read nothing, and seconds before :data:`SLOWEST` applies. Only the time
            spent writing counts, not the time a model takes for a piece of a stream.
    """

    def __init__(self, app: ASGIApp, timeout: float):
        self._app, self._timeout = app, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        writer = _Writer(send, self._timeout, context_of(Request(scope)))
        try:
            await self._app(scope, receive, writer)
        except ClientDisconnect:
            if not writer.stalled:
                raise
            scope.get(ABORT, lambda: None)()
            await asyncio.sleep(0)  # close the connection, so that the server does not wait for the rest of the answer


class _Writer:
    """The sending side of one request."""

    def __init__(self, send: Send, timeout: float, context: Context):
        self._send, self._timeout, self._context = send, timeout, context
        self._seconds = timeout  # seconds left to wait for the client
        self.stalled = False

    async def __call__(self, message: Message) -> None:
        """ASGI's send. Raises ClientDisconnect when the reader stalls."""
        body = message.get("body", b"")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._context.room.close()  # the work is done; from now on only the bytes count
        if len(body) > _PIECE:
            self._context.reservation.add(len(body))
        for start in range(0, max(len(body), 1), _PIECE):
            piece = body[start : start + _PIECE]
            if len(piece) < len(body):
                more = message.get("more_body", False) or start + _PIECE < len(body)
                await self._write({**message, "body": piece, "more_body": more})
            else:
                await self._write(message)

    async def _write(self, message: Message) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(min(self._timeout, self._seconds), 0)):
                await self._send(message)
        except TimeoutError as error:
            self.stalled = True
            raise ClientDisconnect from error
        self._seconds += len(message.get("body", b"")) / SLOWEST - (time.monotonic() - began)
