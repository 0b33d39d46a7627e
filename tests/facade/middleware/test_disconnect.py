"""A handler is cancelled when its caller disconnects or the server stops; no task is left over."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from starlette.requests import ClientDisconnect

from tritonvision.errors import Overloaded
from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.context import Context
from tritonvision.facade.middleware.disconnect import CancelOnDisconnect, OpenRequests


class Handler:
    """Reads the body, then answers if it is ``quick``, otherwise waits for ever."""

    def __init__(self, quick: bool = False, reads: bool = True):
        self.quick, self.reads = quick, reads
        self.begun, self.cancelled = asyncio.Event(), False

    async def __call__(self, scope, receive, send):
        while self.reads and (await receive()).get("more_body"):
            pass
        self.begun.set()
        try:
            if not self.quick:
                await asyncio.Event().wait()
            await send({"type": "http.response.body", "body": b"done"})
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Caller:
    """Sends a body in two pieces and disconnects on demand."""

    def __init__(self):
        self.gone, self.sent = asyncio.Event(), []
        self._messages = [{"type": "http.request", "body": b"x", "more_body": more} for more in (True, False)]

    async def receive(self):
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)


def asked(handler: Handler, caller: Caller, requests: OpenRequests):
    scope = {"type": "http", "method": "POST", "path": "/x"}
    Context("id", ByteReservation(Admission(1, 1, 1)), ExitStack()).put(scope)
    return CancelOnDisconnect(handler, requests)(scope, caller.receive, caller.send)


async def left_over() -> int:
    """The number of other tasks after one iteration of the event loop."""
    await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


def test_a_handler_that_answers_is_not_cancelled():
    async def main():
        handler, caller, requests = Handler(quick=True), Caller(), OpenRequests()
        await asked(handler, caller, requests)
        assert caller.sent and not handler.cancelled and len(requests) == 0 and await left_over() == 0

    asyncio.run(main())


def test_disconnecting_cancels_the_handler_and_the_outer_layers_see_the_reason():
    async def main():
        handler, caller, requests = Handler(), Caller(), OpenRequests()
        task = asyncio.create_task(asked(handler, caller, requests))
        await handler.begun.wait()
        caller.gone.set()
        with pytest.raises(ClientDisconnect):
            await task
        assert handler.cancelled and task.cancelling() == 0 and len(requests) == 0 and await left_over() == 0

    asyncio.run(main())


def test_a_server_that_stops_ends_it_with_a_503():
    async def main():
        handler, requests = Handler(), OpenRequests()
        task = asyncio.create_task(asked(handler, Caller(), requests))
        await handler.begun.wait()
        requests.end_all()
        with pytest.raises(Overloaded, match="shutting down"):
            await task
        assert handler.cancelled and len(requests) == 0 and await left_over() == 0

    asyncio.run(main())


def test_another_cancellation_is_not_converted():
    async def main():
        handler = Handler()
        task = asyncio.create_task(asked(handler, Caller(), OpenRequests()))
        await handler.begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert handler.cancelled and await left_over() == 0

    asyncio.run(main())
