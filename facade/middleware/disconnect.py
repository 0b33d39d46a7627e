"""Cancels every handler whose client disconnects, or when the server stops."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tritonvision.errors import Overloaded
from tritonvision.facade.context import Context, context_of


class OpenRequests:
    """The running requests, so that a stopping server can end them.

    Attributes:
        draining: the server is about to stop, and not ready for new requests.
    """

    def __init__(self) -> None:
        self.draining = False
        self._tasks: dict[asyncio.Task[Any], Context] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def begin(self, context: Context) -> asyncio.Task[Any]:
        """Register the current task as the handler of ``context``."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = context
        return task

    def end(self, task: asyncio.Task[Any], reason: BaseException) -> None:
        """Cancel the handler in ``task``, if it still runs; the request ends with ``reason``."""
        context = self._tasks.pop(task, None)
        if context is not None:
            context.ended_by = reason
            task.cancel()

    def finished(self, task: asyncio.Task[Any]) -> None:
        """Unregister the handler in ``task``, which has returned."""
        self._tasks.pop(task, None)

    def end_all(self) -> None:
        """End every request: with a 503 if the answer has not begun, streams with an error event."""
        for task in list(self._tasks):
            self.end(task, Overloaded("The server is shutting down.", retry_after=5.0))


class CancelOnDisconnect:
    """Cancels a handler when its client disconnects after the body was read; before that, reading fails.

    The handler gets :class:`asyncio.CancelledError`; the outer middlewares get the reason.
    """

    def __init__(self, app: ASGIApp, requests: OpenRequests):
        self._app, self._requests = app, requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's hook."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = context_of(Request(scope))
        body = WatchedBody(receive, context.body is not None and context.body.empty)
        task = self._requests.begin(context)

        def left(watcher: asyncio.Task[None]) -> None:
            if not watcher.cancelled():
                self._requests.end(task, watcher.exception() or ClientDisconnect())

        async def until_the_last_byte(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._requests.finished(task)

        watcher = asyncio.create_task(body.caller_leaves())
        watcher.add_done_callback(left)
        try:
            await self._app(scope, body, until_the_last_byte)
        except asyncio.CancelledError:
            if context.ended_by is None:
                raise
            raise context.ended_by from None
        finally:
            self._requests.finished(task)
            watcher.cancel()
            if context.ended_by is not None:
                task.uncancel()


class WatchedBody:
    """The receiving side of a request. After the body it waits for the disconnect.

    Args:
        empty: there is no body, so watching begins at once.
    """

    def __init__(self, receive: Receive, empty: bool):
        self._receive, self._empty = receive, empty
        self._read, self._gone = asyncio.Event(), asyncio.Event()
        if empty:
            self._read.set()

    async def __call__(self) -> Message:
        """ASGI's receive."""
        if self._empty:
            self._empty = False
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._read.is_set():
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._gone.set()
        if not message.get("more_body", False):
            self._read.set()
        return message

    async def caller_leaves(self) -> None:
        """Return when the client has disconnected after the body was read."""
        await self._read.wait()
        while not self._gone.is_set():
            if (await self._receive())["type"] == "http.disconnect":
                self._gone.set()
