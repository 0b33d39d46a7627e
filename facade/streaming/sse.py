"""Server-sent events: an answer that is sent piece by piece."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tritonvision.errors import TritonVisionError
from tritonvision.facade.context import context_of

log = logging.getLogger("tritonvision.facade")
# Without these proxies buffer the pieces.
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def event(content: Any) -> bytes:
    """One event that carries ``content`` as JSON."""
    return b"data: " + orjson.dumps(content) + b"\n\n"


class EventStream(Response):
    """A response of ``events``, sent one by one. Its status is sent first, so an error is an event, too.

    Args:
        events: made by :func:`event`, or alike.
        failed: makes the event of an error.
        headers: of the response, besides those of every stream.
    """

    def __init__(
        self, events: AsyncGenerator[bytes, None], failed: Callable[[TritonVisionError], bytes],
        headers: Mapping[str, str] | None = None,
    ):  # fmt: skip
        self._events, self._failed = events, failed
        self.status_code, self.background = 200, None
        self.media_type = "text/event-stream"
        self.init_headers({**_HEADERS, **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""

        async def write(piece: bytes) -> None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                async for piece in self._told(scope):
                    await write(piece)
            except asyncio.CancelledError:
                reason = context_of(Request(scope)).ended_by
                if not isinstance(reason, TritonVisionError):  # the client has disconnected
                    raise
                await write(self._failed(reason))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _told(self, scope: Scope) -> AsyncGenerator[bytes, None]:
        """The events, and an error as the last one."""
        try:
            async for piece in self._events:
                yield piece
        except TritonVisionError as error:
            yield self._failed(error)
        except Exception as error:  # the boundary of the process, as for answers in one piece
            request_id = context_of(Request(scope)).request_id
            log.error("%s %s failed, request_id=%s", scope["method"], scope["path"], request_id, exc_info=error)
            yield self._failed(TritonVisionError("Internal error."))
