"""Logs and counts every answered request, whichever layer answered it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.facade.context import context_of
from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.observability.metrics import Metrics

log = logging.getLogger("tritonvision.access")
_LONGEST_PATH = 300


class AccessLog:
    """Counts and logs each request when its answer has been sent.

    The query string is left out, since it may hold a key. The path is escaped again: routing unescaped it, and a line
    break in it would forge a log line.

    Args:
        dialect_of: the dialect that owns a path.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, dialect_of: Callable[[str], Dialect]):
        self._app, self._metrics, self._dialect_of = app, metrics, dialect_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 0

        async def noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._note(scope, status)

    def _note(self, scope: Scope, status: int) -> None:
        context = context_of(Request(scope))
        seconds = time.perf_counter() - context.started
        dialect = self._dialect_of(scope["path"]).name
        self._metrics.request(dialect, context.model, status, seconds)
        path = quote(scope["path"], safe="/:@+,;=~!$&'()*")[:_LONGEST_PATH]
        client = (scope.get("client") or ("-",))[0]
        log.info(
            "%s %s %d %.1f ms model=%s client=%s request_id=%s", scope["method"], path, status, seconds * 1000,
            context.model or "-", client, context.request_id,
            extra={"fields": {
                "method": scope["method"], "path": path, "status": status, "ms": round(seconds * 1000, 1),
                "model": context.model or None, "dialect": dialect, "client": client, "request_id": context.request_id,
            }},
        )  # fmt: skip
