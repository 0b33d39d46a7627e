"""WebSockets as an attacker uses them: compressed messages, parts without end, huge settings, odd handshakes."""

from __future__ import annotations

import asyncio
import base64
import os
import struct
import zlib

import pytest

MODEL = "sam2-rt-tiny"
MEGABYTE = 2**20
TEXT, BINARY, CONTINUED, CLOSE, PING = 1, 2, 0, 8, 9


def frame(kind: int, data: bytes = b"", *, last: bool = True, compressed: bool = False) -> bytes:
    """A frame of a client (RFC 6455, 5.2), whose mask changes nothing."""
    size = len(data)
    begin = bytes([last << 7 | compressed << 6 | kind])
    if size < 126:
        return begin + bytes([0x80 | size]) + bytes(4) + data
    if size < 65536:
        return begin + struct.pack(">BH", 0x80 | 126, size) + bytes(4) + data
    return begin + struct.pack(">BQ", 0x80 | 127, size) + bytes(4) + data


def handshake(*headers: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return "\r\n".join((
        f"GET /streams/{MODEL} HTTP/1.1", "host: localhost", "connection: upgrade", "upgrade: websocket",
        "sec-websocket-version: 13", f"sec-websocket-key: {key}", *headers, "", "",
    )).encode()  # fmt: skip


async def opened(client, *headers: str):
    """(head of the answer, reader, writer)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(handshake(*headers))
    async with asyncio.timeout(10):
        return await reader.readuntil(b"\r\n\r\n"), reader, writer


async def closed_with(reader) -> int:
    """The code with which the server closes."""
    async with asyncio.timeout(20):
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack(">H", await reader.readexactly(2))
            data = await reader.readexactly(size)
            if first & 15 == CLOSE:
                return struct.unpack(">H", data[:2])[0]


async def all_given_back(client) -> None:
    async with asyncio.timeout(10):
        while client.service.admission.bytes:
            await asyncio.sleep(0.01)


@pytest.mark.attack("compressed WebSocket messages")
def test_no_message_is_decompressed(house, served):
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(bytes(50 * MEGABYTE)) + packer.flush(zlib.Z_SYNC_FLUSH)

    async def main() -> None:
        async with served(house) as client:
            head, reader, writer = await opened(client, "sec-websocket-extensions: permessage-deflate")
            assert b" 101 " in head and b"deflate" not in head.lower()
            writer.write(frame(BINARY, bomb, compressed=True))
            assert await closed_with(reader) == 1002
            writer.close()

    asyncio.run(main())


@pytest.mark.attack("WebSocket messages without end")
def test_parts_of_messages_count_against_the_bytes_of_all_callers(house, served, until):
    async def main() -> None:
        async with served(house, max_body_bytes=3 * MEGABYTE, max_in_flight_bytes=5 * MEGABYTE) as client:
            sockets = [await opened(client) for _ in range(3)]
            for n, (_, reader, writer) in enumerate(sockets[:2], 1):
                for part in range(2):
                    writer.write(frame(CONTINUED if part else BINARY, bytes(MEGABYTE), last=False))
                await until(lambda n=n: client.service.admission.bytes > 2 * n * MEGABYTE)
            _, reader, writer = sockets[2]
            writer.write(frame(BINARY, bytes(2 * MEGABYTE), last=False))
            assert await closed_with(reader) == 1013
            for _, _, writer in sockets:
                writer.close()
            await all_given_back(client)
            assert (await client.get("/healthz")).status_code == 200

    asyncio.run(main())


@pytest.mark.attack("WebSocket messages without end")
@pytest.mark.parametrize("kind", ["one frame", "parts", "empty parts", "pings"])
def test_a_message_over_the_limit_closes_its_socket_alone(house, served, kind):
    piece = {
        "one frame": frame(BINARY, bytes(2 * MEGABYTE)), "parts": frame(CONTINUED, bytes(10_000), last=False),
        "empty parts": frame(CONTINUED, last=False) * 1000, "pings": frame(PING, bytes(100)) * 100,
    }[kind]  # fmt: skip

    async def main() -> None:
        async with served(house, max_body_bytes=MEGABYTE) as client:
            _, reader, writer = await opened(client)
            writer.write(frame(BINARY, b"x", last=False))
            told = asyncio.ensure_future(_drained(reader))
            sent = 0
            while not told.done() and sent < 30 * MEGABYTE:
                writer.write(piece)
                sent += len(piece)
                await asyncio.wait((told,), timeout=0.001)
            async with asyncio.timeout(20):
                await told
            writer.close()
            assert sent < 30 * MEGABYTE
            await all_given_back(client)

    async def _drained(reader) -> None:
        try:
            while await reader.read(65536):
                pass
        except ConnectionError:
            pass

    asyncio.run(main())


@pytest.mark.attack("JSON that grows in memory")
@pytest.mark.parametrize("text, sentence", [
    (b'{"boxes":[' + b"1," * 2 * MEGABYTE + b"1]}", b"too many values"),
    (b'{"boxes":' + b"[" * 500 + b"]" * 500 + b"}", b"levels"),
    (b'{"boxes":' + b"[" * 100_000, b"JSON"),
], ids=["numbers", "levels", "no end"])  # fmt: skip
def test_settings_on_a_socket_are_bounded_as_every_body_is(house, served, text, sentence):
    async def main() -> None:
        async with served(house) as client:
            _, reader, writer = await opened(client)
            writer.write(frame(TEXT, text))
            async with asyncio.timeout(20):
                while sentence not in (answer := await reader.read(65536)):
                    assert answer, "closed without a word"
            writer.close()

    asyncio.run(main())


@pytest.mark.attack("malformed requests")
@pytest.mark.parametrize("headers", [
    [f"x{n}: y" for n in range(200)], ["x: " + "y" * 20_000], ["sec-websocket-key: again"], ["x: \xff"],
], ids=["many headers", "a long header", "two keys", "bytes"])  # fmt: skip
def test_an_odd_handshake_is_refused_and_nothing_fails_inside(house, served, headers, caplog):
    async def main() -> None:
        async with served(house) as client:
            reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
            writer.write(handshake(*headers))
            async with asyncio.timeout(10):
                try:
                    head = await reader.read(4096)
                except ConnectionError:
                    head = b""
            writer.close()
            assert head == b"" or b" 101 " in head or b" 4" in head, head
            assert (await client.get("/healthz")).status_code == 200

    asyncio.run(main())
    assert not [record for record in caplog.records if record.exc_info or "Traceback" in record.getMessage()]
