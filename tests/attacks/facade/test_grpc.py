"""Messages over gRPC that never end: HTTP/2 by hand, since a client of gRPC's sends a message whole."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from tritonvision.facade import grpc_bridge
from tritonvision.facade.app import create_app
from tritonvision.facade.run import listen
from tritonvision.settings import Settings

MODEL = "yolov8n-640"
MEGABYTE = 2**20
# RFC 9113: kinds of frames, and flags
DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
ACK, END_HEADERS = 1, 4


def frame(kind: int, flags: int, stream: int, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data))[1:] + struct.pack(">BBI", kind, flags, stream) + data


def headers(call: str) -> bytes:
    """Of a call, none of them compressed (RFC 7541, 6.2.2)."""
    fields = {
        ":method": "POST", ":scheme": "http", ":path": f"/inference.GRPCInferenceService/{call}", ":authority": "a",
        "content-type": "application/grpc", "te": "trailers",
    }  # fmt: skip
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


class Sender:
    """One connection on which calls begin messages of a megabyte, and send as little of each as they please."""

    def __init__(self, port: int):
        self._port = port
        self.granted: Counter[int] = Counter()  # bytes that the server lets a stream send besides the first 64 KB

    async def __aenter__(self) -> Sender:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        self._reading = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        self._writer.close()

    def begin(self, call: str, streams: range) -> None:
        """Calls that announce a megabyte and send the first kilobyte."""
        for stream in streams:
            self._writer.write(frame(HEADERS, END_HEADERS, stream, headers(call)))
            self._writer.write(frame(DATA, 0, stream, struct.pack(">BI", 0, MEGABYTE - 100) + bytes(1000)))

    def wanted(self) -> int:
        """Of how many messages the server wants the rest."""
        return sum(granted > MEGABYTE // 2 for stream, granted in self.granted.items() if stream)

    async def _read(self) -> None:
        while True:
            head = await self._reader.readexactly(9)
            kind, flags, stream = struct.unpack(">BBI", head[3:])
            data = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            if kind in (SETTINGS, PING) and not flags & ACK:
                self._writer.write(frame(kind, ACK, 0, b"" if kind == SETTINGS else data))
            elif kind == WINDOW_UPDATE:
                self.granted[stream] += struct.unpack(">I", data)[0]


async def answered(client: triton.InferenceServerClient, image: triton.InferInput) -> bool:
    """Whether there was room for the message."""
    try:
        await client.infer(MODEL, [image])
    except InferenceServerException as error:
        assert error.status() == "StatusCode.UNAVAILABLE"
        return False
    return True


@pytest.mark.attack("gRPC messages without end")
@pytest.mark.parametrize("call", ["ModelInfer", "ServerLive", "ModelStreamInfer"])
def test_no_more_messages_are_received_at_once_than_there_is_room_for(house, picture, call, until):
    with listen("127.0.0.1", 0) as probe:
        port = probe.getsockname()[1]
    settings = Settings(
        repository=house.settings.repository, grpc_port=port, max_grpc_message_bytes=MEGABYTE,
        max_in_flight_bytes=8 * MEGABYTE, read_timeout=1.0, stream_idle_timeout=1.0,
    )  # fmt: skip

    async def main() -> None:
        async with grpc_bridge.serving(create_app(house.engine, settings), settings), Sender(port) as sender:
            sender.begin(call, range(1, 41, 2))  # 20 calls, of which an address may have three of four places
            await until(lambda: sender.wanted() == 3)
            await asyncio.sleep(0.3)
            assert sender.wanted() == 3
            async with triton.InferenceServerClient(f"127.0.0.1:{port}") as client, asyncio.timeout(10):
                image = triton.InferInput("image", [1, 1], "BYTES")
                image.set_data_from_numpy(np.array([[picture]], dtype=object))
                while not await answered(client, image):  # until those before have had their second
                    assert call != "ModelStreamInfer", "streams stand in the way of single messages"
                image.set_data_from_numpy(np.array([[bytes(MEGABYTE)]], dtype=object))
                with pytest.raises(InferenceServerException, match="larger than max"):
                    await client.infer(MODEL, [image])

    asyncio.run(main())
