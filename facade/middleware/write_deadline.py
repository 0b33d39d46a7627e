"""How slowly an answer may be read."""

from __future__ import annotations

import asyncio
import time

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.facade.context import Context, context_of
from tritonvision.facade.middleware.body_limits import SLOWEST

# What is handed to the server at once. It buffers a piece and waits before the next one, so a reader that takes
# nothing keeps the request, and with it the request's place, until the deadline.
_PIECE = 64 * 1024
# What the server puts into the scope: ends the connection without waiting for what is buffered (see run.py).
ABORT = "tritonvision.abort"


class WriteDeadline:
    """Writes answers piece by piece and hangs up on a reader that stalls or trickles.

    Args:
        timeout: seconds that the reader may take nothing, and those it has before :data:`SLOWEST` counts. Only the
            time spent writing counts: what a model thinks before a piece of a stream is nobody's fault.
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
            await asyncio.sleep(0)  # the connection is told, so that the server does not miss the rest of the answer


class _Writer:
    """The sending side of one request."""

    def __init__(self, send: Send, timeout: float, context: Context):
        self._send, self._timeout, self._context = send, timeout, context
        self._seconds = timeout  # that may still be spent waiting for the reader
        self.stalled = False

    async def __call__(self, message: Message) -> None:
        """ASGI's send. Raises ClientDisconnect when the reader stalls."""
        body = message.get("body", b"")
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._context.room.close()  # the work is done; what is left is counted in bytes
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
