"""Answers that go out piece by piece: what is written, what an error becomes, and that nothing stays open."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from tritonvision import errors
from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.context import Context
from tritonvision.facade.streaming import sse
from tritonvision.facade.streaming.sse import EventStream, event


class Source:
    """Three events, then ``end``; knows whether it was closed."""

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


def answer(source: Source, send=None) -> list[dict]:
    """What the stream sends."""
    sent: list[dict] = []

    async def keep(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/x"}
    Context("my-request", ByteReservation(Admission(1, 1, 1))).put(scope)
    stream = EventStream(source.__aiter__(), lambda error: event({"error": error.message}))
    asyncio.run(stream(scope, None, send or keep))
    assert source.closed
    return sent


def test_each_event_is_one_write_and_the_end_is_told():
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


def test_nothing_more_is_sent_to_a_caller_who_is_gone(caplog):
    assert len(answer(Source(ClientDisconnect()))) == 4
    assert not caplog.records


def test_a_caller_who_takes_nothing_counts_as_gone(monkeypatch):
    monkeypatch.setattr(sse, "_STALLED_SECONDS", 0.05)
    sent = []

    async def stall(message):
        sent.append(message)
        if len(sent) > 2:
            await asyncio.sleep(10)

    answer(Source(), stall)
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
