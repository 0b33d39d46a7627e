"""Logs, counts and traces every answered request, whichever layer answered it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.facade.context import Context, context_of
from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.observability.metrics import Metrics, outcome

if TYPE_CHECKING:
    from tritonvision.facade.observability.tracing import Tracing

log = logging.getLogger("tritonvision.access")
_LONGEST_PATH = 300


class AccessLog:
    """Counts, logs and traces each request when its answer has been sent.

    The query string is left out, since it may hold a key. The path is escaped again: routing unescaped it, and a line
    break in it would forge a log line.

    Args:
        dialect_of: the dialect that owns a path.
        tracing: makes spans; None where no traces are wanted.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, dialect_of: Callable[[str], Dialect], tracing: Tracing | None = None
    ):
        self._app, self._metrics, self._dialect_of, self._tracing = app, metrics, dialect_of, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, context = 0, context_of(Request(scope))
        span = self._tracing.begin(scope, context.timeline) if self._tracing else None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if context.answered:
                    context.timeline.add("encode", context.answered)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            self._note(scope, context, status, span)

    def _note(self, scope: Scope, context: Context, status: int, span: Any) -> None:
        seconds = time.perf_counter() - context.started
        dialect = self._dialect_of(scope["path"]).name
        self._metrics.request(dialect, context.model, status, seconds)
        self._metrics.stages(context.model, context.timeline)
        path = quote(scope["path"], safe="/:@+,;=~!$&'()*")[:_LONGEST_PATH]
        client = (scope.get("client") or ("-",))[0]
        fields = {
            "method": scope["method"], "path": path, "status": status, "outcome": outcome(status),
            "ms": round(seconds * 1000, 1), "model": context.model or None, "dialect": dialect, "client": client,
            "caller": context.caller or None, "request_id": context.request_id,
            "stages_ms": {name: round(took * 1000, 2) for name, took in context.timeline.seconds().items()},
        }  # fmt: skip
        if self._tracing and span is not None:
            fields["trace_id"] = self._tracing.trace_id(span)
            self._tracing.end(span, context.timeline, _attributes(scope, fields), failed=status >= 500)
        log.info(
            "%s %s %d %.1f ms model=%s client=%s request_id=%s", scope["method"], path, status, seconds * 1000,
            context.model or "-", client, context.request_id, extra={"fields": fields},
        )  # fmt: skip


def _attributes(scope: Scope, fields: dict[str, Any]) -> dict[str, str | int]:
    """Of the span of a request: OpenTelemetry's names for what has one, ours for the rest; no address, no key."""
    told = {
        "http.request.method": fields["method"], "url.path": fields["path"],
        "http.response.status_code": fields["status"], "http.route": getattr(scope.get("route"), "path", ""),
        **{f"tritonvision.{name}": fields[name] for name in ("model", "dialect", "caller", "request_id", "outcome")},
    }  # fmt: skip
    return {name: value for name, value in told.items() if value not in (None, "")}
