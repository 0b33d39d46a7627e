"""A WebSocket whose client reads nothing does not hold its stream, its task and its connection for ever."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from dataclasses import replace

import numpy as np

MODEL = "sam2-rt-tiny"


def text_frame(text: str) -> bytes:
    """A frame of a client (RFC 6455, 5.2), whose mask changes nothing."""
    return struct.pack(">BBH", 0x81, 0x80 | 126, len(text)) + bytes(4) + text.encode()


def opening() -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return "\r\n".join((
        f"GET /streams/{MODEL} HTTP/1.1", "host: localhost", "connection: upgrade", "upgrade: websocket",
        "sec-websocket-version: 13", f"sec-websocket-key: {key}", "", "",
    )).encode()  # fmt: skip


def test_a_client_that_reads_no_answer_is_disconnected_and_its_stream_ended(
    house, served, picture, until, monkeypatch
):
    plane = house.engine.streams
    step = plane.step

    async def with_many_objects(*given):
        number, found = await step(*given)
        return number, replace(found, object_ids=np.arange(5000), scores=np.ones(5000), masks=None)

    monkeypatch.setattr(plane, "step", with_many_objects)
    prompt = json.dumps({"image": base64.b64encode(picture).decode(), "boxes": [[2, 3, 20, 15]], "box_objects": [3]})

    async def send_for_ever(peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer, opening())
        assert b" 101 " in await loop.sock_recv(peer, 4096)
        await loop.sock_sendall(peer, text_frame(prompt))
        while True:
            await loop.sock_sendall(peer, text_frame(prompt))

    async def main() -> None:
        async with served(house, write_timeout=0.3) as client:
            with socket.socket() as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.connect(("127.0.0.1", client.base_url.port))
                peer.setblocking(False)
                sending = asyncio.ensure_future(send_for_ever(peer))
                await until(lambda: plane.ended == [1])
                await asyncio.wait((sending,), timeout=10)
                assert isinstance(sending.exception(), ConnectionError)

    asyncio.run(main())
