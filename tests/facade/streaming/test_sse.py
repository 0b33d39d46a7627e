"""Server-sent events: the format, errors during a stream, and that every stream is closed."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from starlette.requests import ClientDisconnect

from tritonvision import errors
from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.context import Context
from tritonvision.facade.streaming.sse import EventStream, event


class Source:
    """Three events, then ``end``; records whether it was closed."""

    def __init__(self, end: Exception | None = None):
        self.end, self.closed = end, False

    async def __aiter__(self):
        try:
            for i in range(3):
                yield event({"i": i})
            if self.end is not None:
                raise self.end
        finally:
            self.closed = True


def answer(source: Source, send=None, ended_by: Exception | None = None) -> list[dict]:
    """The bytes that the stream sends."""
    sent: list[dict] = []

    async def keep(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/x"}
    context = Context("my-request", ByteReservation(Admission(1, 1, 1)), ExitStack(), ended_by=ended_by)
    context.put(scope)
    stream = EventStream(source.__aiter__(), lambda error: event({"error": error.message}))
    try:
        asyncio.run(stream(scope, None, send or keep))
    finally:
        assert source.closed
    return sent


def test_each_event_is_one_write_and_the_end_is_marked():
    start, *pieces, end = answer(Source())
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream") and headers[b"cache-control"] == b"no-cache"
    assert headers[b"x-accel-buffering"] == b"no" and b"content-length" not in headers
    assert [piece["body"] for piece in pieces] == [b'data: {"i":%d}\n\n' % i for i in range(3)]
    assert all(piece["more_body"] for piece in pieces) and end["more_body"] is False


@pytest.mark.parametrize("error, told", [
    (errors.DeadlineExceeded("Too late."), b"Too late."), (RuntimeError("secret"), b"Internal error."),
    (TimeoutError(), b"Internal error."),
])  # fmt: skip
def test_an_error_is_the_last_event(error, told, caplog):
    sent = answer(Source(error))
    assert sent[-2]["body"] == b'data: {"error":"%s"}\n\n' % told and sent[-1]["more_body"] is False
    foreseen = isinstance(error, errors.TritonVisionError)
    assert [("my-request" in record.getMessage()) for record in caplog.records] == ([] if foreseen else [True])


def test_a_client_that_stops_reading_closes_the_stream():
    sent = []

    async def gone(message):
        sent.append(message)
        if len(sent) > 2:
            raise ClientDisconnect

    with pytest.raises(ClientDisconnect):
        answer(Source(), gone)
    assert len(sent) == 3


def test_a_cancelled_answer_is_closed():
    sent = []

    async def cancel(message):
        sent.append(message)
        if len(sent) > 2:
            raise asyncio.CancelledError

    source = Source()
    with pytest.raises(asyncio.CancelledError):
        answer(source, cancel)
    assert source.closed and len(sent) == 3


def test_a_stream_that_the_server_ends_says_why_in_its_last_event():
    source, sent = Source(), []

    async def stop(message):
        sent.append(message)
        if len(sent) == 3:
            raise asyncio.CancelledError

    answer(source, stop, ended_by=errors.Overloaded("The server is shutting down."))
    assert sent[-2]["body"] == b'data: {"error":"The server is shutting down."}\n\n' and not sent[-1]["more_body"]
