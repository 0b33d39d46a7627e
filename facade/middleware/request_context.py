"""Gives every request an id and a context, and releases its admission at the end."""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection
from contextlib import ExitStack

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.context import Context
from tritonvision.stages import measured

_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class RequestContext:
    """Gives every request an id, which its answer repeats, and a :class:`Context`, and releases its admission.

    A trailing slash is dropped, since a redirect would break clients that POST; HEAD is answered as GET on the open
    paths, which have no side effects.

    Args:
        open_paths: reachable without a key.
    """

    def __init__(self, app: ASGIApp, admission: Admission, open_paths: Collection[str]):
        self._app, self._admission, self._open_paths = app, admission, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].rstrip("/") or "/"
        head = scope["method"] == "HEAD" and path in self._open_paths
        scope = {**scope, "path": path, "method": "GET" if head else scope["method"]}
        request_id = _request_id(Headers(scope=scope))

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send({**message, "body": b""} if head and message["type"] == "http.response.body" else message)

        with ByteReservation(self._admission) as reservation, ExitStack() as room:
            context = Context(request_id, reservation, room)
            context.put(scope)
            with measured(context.timeline):
                await self._app(scope, receive, with_id)


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
