"""The outermost layer of a request: its id, its bytes, its last resort for errors, its figures and its log line."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.errors import TritonVisionError
from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.context import Context
from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.observability.metrics import Metrics
from tritonvision.facade.replies import refuse

log = logging.getLogger("tritonvision.facade")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_DRAIN_SECONDS = 5.0
CLIENT_GONE = 499  # nginx's number for a caller who hung up; nobody reads the response


class RequestMiddleware:
    """ASGI middleware around the whole application.

    Args:
        dialect_of: the dialect that owns a path.
    """

    def __init__(
        self, app: ASGIApp, admission: Admission, metrics: Metrics, dialect_of: Callable[[str], Dialect]
    ):  # fmt: skip
        self._app, self._admission, self._metrics, self._dialect_of = app, admission, metrics, dialect_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"] != "/":
            scope["path"] = scope["path"].rstrip("/") or "/"  # a redirect for a slash would break clients that POST
        with ByteReservation(self._admission) as reservation:
            await self._answer(
                scope, Body(receive, reservation), send, Context(_request_id(Headers(scope=scope)), reservation)
            )

    async def _answer(self, scope: Scope, body: Body, send: Send, context: Context) -> None:
        context.put(scope)
        dialect = self._dialect_of(scope["path"])
        answer = Answer(send, context.request_id)
        try:
            body.announce(Headers(scope=scope))
            await self._app(scope, body, answer)
        except Exception as error:  # the boundary of the process: the trace goes to the log, never to the caller
            if answer.status:
                raise
            response = self._refusal(dialect, error, context, scope)
            if response.status_code != CLIENT_GONE:
                await body.drain()  # a client that is still sending would not see the answer
            await response(scope, body, answer)
        finally:
            seconds = time.perf_counter() - context.started
            self._metrics.request(dialect.name, context.model, answer.status, seconds)
            # never the query string: it may hold a key
            log.info(
                "%s %s %d %.1f ms model=%s request_id=%s", scope["method"], scope["path"], answer.status,
                seconds * 1000, context.model or "-", context.request_id,
            )  # fmt: skip

    def _refusal(self, dialect: Dialect, error: Exception, context: Context, scope: Scope) -> Response:
        if isinstance(error, TritonVisionError):
            return refuse(dialect.errors, error)
        if isinstance(error, ClientDisconnect):
            return Response(status_code=CLIENT_GONE)
        log.error(
            "%s %s failed, request_id=%s", scope["method"], scope["path"], context.request_id, exc_info=error
        )  # fmt: skip
        return refuse(dialect.errors, TritonVisionError("Internal error."))


class Body:
    """The receiving side of a request; counts the bytes as they come in, before anybody keeps them."""

    def __init__(self, receive: Receive, reservation: ByteReservation):
        self._receive, self._hold = receive, reservation
        self._more = True

    def announce(self, headers: Headers) -> None:
        """Refuse a body that says it is too large before any of it is read."""
        # Who expects "100 Continue" sends nothing before the answer: there is nothing to drain, and asking invites it.
        self._more = headers.get("expect", "").lower() != "100-continue"
        length = headers.get("content-length", "")
        if length.isdecimal():
            self._hold.announce(int(length[:18]))

    async def __call__(self) -> Message:
        """ASGI's receive."""
        message = await self._next()
        if message["type"] == "http.request":
            self._hold.take(len(message.get("body", b"")))
        return message

    async def drain(self) -> None:
        """Take the rest from the wire and drop it, for a few seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._more:
                    await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        return message


class Answer:
    """The sending side of a request; knows the status and adds the request id."""

    def __init__(self, send: Send, request_id: str):
        self._send, self._request_id = send, request_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        """ASGI's send."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self._request_id
        await self._send(message)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
