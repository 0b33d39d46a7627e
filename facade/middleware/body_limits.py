"""Limits on request bodies: bytes of one request, bytes of all requests, and a least rate."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.errors import InvalidParameter, RequestTooSlow
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.context import context_of

# The least average rate of a sender, and of a reader of an answer, bytes a second, after its first seconds.
SLOWEST = 100_000
_DRAIN_SECONDS = 5.0
_PLAIN = ("", "identity")  # values of Content-Encoding


class BodyLimits:
    """Counts the bytes of a body as they arrive, and gives up on a sender that stalls or is too slow.

    Args:
        timeout: seconds that the sender may pause, and seconds before :data:`SLOWEST` applies.
    """

    def __init__(self, app: ASGIApp, timeout: float):
        self._app, self._timeout = app, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(Request(scope))
        body = context.body = Body(scope, receive, context.reservation, self._timeout)

        async def after_the_body(message: Message) -> None:
            if message["type"] == "http.response.start" and body.unread:
                await body.drain()  # a client that is still sending does not read the answer
                if body.unread:
                    MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, body, after_the_body)


class Body:
    """The receiving side of one request.

    Args:
        timeout: see :class:`BodyLimits`.
    """

    def __init__(self, scope: Scope, receive: Receive, reservation: ByteReservation, timeout: float):
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        self._announced = int(length[:18]) if length.isdecimal() else 0
        self._receive, self._reservation, self._timeout = receive, reservation, timeout
        self._seconds = timeout  # seconds left to wait for the sender
        self._peeked: deque[Message] = deque()
        unsaid = length == "" and "transfer-encoding" not in headers
        self._more = scope["method"] not in ("GET", "HEAD") if unsaid else length != "0"
        self._encoding = headers.get("content-encoding", "").strip().lower()
        # With Expect: 100-continue the client waits for a 100, which reading sends.
        self._to_be_asked = headers.get("expect", "").lower() == "100-continue"

    @property
    def empty(self) -> bool:
        """Whether there is no body, or all of it has arrived."""
        return not self._more

    @property
    def unread(self) -> bool:
        """Whether the client is sending bytes that were not read."""
        return self._more and not self._to_be_asked

    async def __call__(self) -> Message:
        """ASGI's receive.

        Raises:
            InvalidParameter: the body is compressed.
            PictureTooLarge, Overloaded: over a limit; an announced length is checked before reading.
            RequestTooSlow: the sender stalls.
        """
        if self._encoding not in _PLAIN and (self._more or self._peeked):
            raise InvalidParameter(
                f"The body is sent as '{self._encoding[:40]}', and bodies are not decompressed here.",
                hint="Send it without Content-Encoding; pictures are compressed already.",
            )
        if self._more or self._peeked:  # else a body that was taken whole would be refused for what others hold
            self._reservation.announce(self._announced)
        message = self._peeked.popleft() if self._peeked else await self._next()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._announced = max(self._announced - size, 0)
            self._reservation.take(size)
        return message

    async def peek(self, most: int) -> bytes:
        """The beginning of the body, ``most`` bytes or more if it has them, without counting or consuming it.

        Raises ClientDisconnect, RequestTooSlow.
        """
        size = sum(len(message["body"]) for message in self._peeked)
        while self._more and size < most:
            message = await self._next()
            if message["type"] != "http.request":
                raise ClientDisconnect
            self._peeked.append({"body": b"", **message})
            size += len(self._peeked[-1]["body"])
        return b"".join(message["body"] for message in self._peeked)

    async def drain(self) -> None:
        """Read and drop the rest, for a few seconds at most."""
        with contextlib.suppress(TimeoutError, RequestTooSlow):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self.unread:
                    await self._next()

    async def _next(self) -> Message:
        self._to_be_asked = False
        if not self._more:  # the body is complete: the next message is the disconnect
            return await self._receive()
        began = time.monotonic()
        try:
            async with asyncio.timeout(max(min(self._timeout, self._seconds), 0)):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestTooSlow from error
        self._seconds += len(message.get("body", b"")) / SLOWEST - (time.monotonic() - began)
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message
