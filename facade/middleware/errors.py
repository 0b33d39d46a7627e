"""Turns every exception of a request into the error body of its dialect."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.errors import TritonVisionError
from tritonvision.facade.context import context_of
from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.replies import cut, refuse, sentence

log = logging.getLogger("tritonvision.facade")
_REFUSED, _REASON = 1008, 100  # code of a close, and letters of its reason
CLIENT_GONE = 499  # nginx's status for a disconnected client; nobody reads the response


class ErrorResponses:
    """Turns an exception into a response, if none has begun.

    Args:
        dialect_of: the dialect that owns a path.
    """

    def __init__(self, app: ASGIApp, dialect_of: Callable[[str], Dialect]):
        self._app, self._dialect_of = app, dialect_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except ClientDisconnect:
            if not begun:
                await Response(status_code=CLIENT_GONE)(scope, receive, noting)
        except TritonVisionError as error:
            if begun:  # too late for a status; the server closes a connection whose answer is incomplete
                log.warning("%s %r was cut short: %s", scope["method"], scope["path"], error.message)
                return
            await refuse(self._dialect_of(scope["path"]).errors, error)(scope, receive, noting)
        except Exception as error:  # the boundary of the process: the trace goes to the log, never to the caller
            if begun:
                raise
            request_id = context_of(Request(scope)).request_id
            log.error("%s %r failed, request_id=%s", scope["method"], scope["path"], request_id, exc_info=error)
            answer = refuse(self._dialect_of(scope["path"]).errors, TritonVisionError("Internal error."))
            await answer(scope, receive, noting)

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A WebSocket that is refused, or whose handler fails, is closed with the reason."""
        try:
            await self._app(scope, receive, send)
        except TritonVisionError as error:
            reason = sentence(error)
        except Exception as error:  # the boundary of the process, as above
            log.error("%r failed", scope["path"], exc_info=error)
            reason = "Internal error."
        else:
            return
        with suppress(RuntimeError, OSError):  # the client has gone, or was told already
            await send({"type": "websocket.close", "code": _REFUSED, "reason": cut(reason, _REASON)})
