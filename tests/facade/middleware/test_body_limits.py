"""The receiving side of a request counts its bytes once, and says nothing of what others hold afterwards."""

from __future__ import annotations

import asyncio

from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.middleware.body_limits import Body


def test_a_request_that_was_taken_whole_goes_on_however_much_others_hold_after_it():
    messages = iter([{"type": "http.request", "body": bytes(700)}, {"type": "http.disconnect"}])

    async def receive():
        return next(messages)

    async def main():
        admission = Admission(1, 1000, 900)
        scope = {"type": "http", "method": "POST", "headers": [(b"content-length", b"700")]}
        with ByteReservation(admission) as ours, ByteReservation(admission) as others:
            ours.belongs_to("ours")
            body = Body(scope, receive, ours, 5.0)
            assert len((await body())["body"]) == 700 and body.empty
            others.take(300)
            assert (await body())["type"] == "http.disconnect", "its handler was cancelled for the bytes of others"

    asyncio.run(main())
