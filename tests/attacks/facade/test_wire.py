"""Bytes on a connection that no HTTP client sends: lying lengths, compressed bodies, chunks, trailers, headers.

A real port is attacked. After each attack the server answers the next caller and holds no bytes of the last.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import struct
import zlib
from collections.abc import Awaitable, Callable

import pytest
import raw_http

DETECTOR = "yolov8n-640"
PATH = f"/models/{DETECTOR}"
ENOUGH = 4_000_000  # bytes that no attack below gets rid of


def run(house, served, attack: Callable[..., Awaitable[None]], **options) -> None:
    """Runs ``attack(client)`` against the house on a port; afterwards the server is as it was."""

    async def main() -> None:
        async with served(house, **options) as client:
            await house.engine.load(DETECTOR)
            await attack(client)
            assert (await client.get("/healthz")).status_code == 200
            async with asyncio.timeout(10):
                while client.service.admission.bytes:
                    await asyncio.sleep(0.01)

    asyncio.run(main())


async def taken(client, head: bytes, piece: bytes) -> int:
    """Bytes that the server takes of a request with an endless repetition of ``piece``, until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    writer.write(head)
    sent = 0
    try:
        async with asyncio.timeout(20):
            while sent < ENOUGH and not reader.at_eof():
                writer.write(piece)
                sent += len(piece)
                await writer.drain()
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    finally:
        writer.close()
    return sent


def request(*headers: str, path: str = PATH, **more) -> bytes:
    return raw_http.request(*headers, path=path, **more)


async def statuses(client, data: bytes) -> list[int]:
    return await raw_http.statuses(client.base_url.port, data)


# ---- lengths ---------------------------------------------------------------------------------------------------------

HIDDEN = b"POST /model/clear HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n"
LYING = {
    "both length and chunks": request(f"content-length: {len(HIDDEN)}", "transfer-encoding: chunked",
                                      body=b"0\r\n\r\n" + HIDDEN),
    "chunks and length": request("transfer-encoding: chunked", "content-length: 5", body=b"0\r\n\r\n" + HIDDEN),
    "two lengths": request("content-length: 0", f"content-length: {len(HIDDEN)}", body=HIDDEN),
    "a list of lengths": request("content-length: 0, 5", body=HIDDEN),
    "a negative length": request("content-length: -1", body=HIDDEN),
    "a signed length": request("content-length: +5", body=HIDDEN),
    "a length in hexadecimal": request("content-length: 0x10", body=HIDDEN),
    "a length over 64 bits": request("content-length: 99999999999999999999", body=HIDDEN),
    "a length in other digits": request("content-length: \u0665", body=HIDDEN),
    "chunks that are not the last coding": request("transfer-encoding: chunked, identity", body=b"0\r\n\r\n" + HIDDEN),
    "a coding of a similar name": request("transfer-encoding: xchunked", body=b"0\r\n\r\n" + HIDDEN),
    "a space before the colon": request("transfer-encoding : chunked", body=b"0\r\n\r\n" + HIDDEN),
    "a negative chunk": request("transfer-encoding: chunked", body=b"-1\r\n" + HIDDEN),
    "a chunk over 64 bits": request("transfer-encoding: chunked", body=b"fffffffffffffffff\r\n" + HIDDEN),
    "a chunk without its end": request("transfer-encoding: chunked", body=b"1\r\nabc0\r\n\r\n" + HIDDEN),
    "a folded header": request("content-length: 0", " 5", body=HIDDEN),
    "a header with NUL": request("content-length: 0\0", body=HIDDEN),
    "a line feed alone": request("x: y\ncontent-length: 0", body=HIDDEN),
}  # fmt: skip


@pytest.mark.attack("request smuggling by lying lengths")
@pytest.mark.parametrize("name", LYING)
def test_no_second_request_is_read_out_of_a_body_whose_length_lies(house, served, name):
    async def attack(client) -> None:
        assert [status for status in await statuses(client, LYING[name]) if status < 400] == []
        assert [manifest.id for manifest in house.engine.loaded()] == [DETECTOR], "the hidden request was obeyed"

    run(house, served, attack)


# ---- compressed bodies -----------------------------------------------------------------------------------------------


def bomb(kind: str) -> bytes:
    """64 MB of a JSON text in some kilobytes."""
    plain = b'{"inputs":"' + b"A" * 2**26 + b'"}'
    return gzip.compress(plain, 9) if kind == "gzip" else zlib.compress(plain, 9)


@pytest.mark.attack("compressed bodies")
@pytest.mark.parametrize("kind", ["gzip", "deflate"])
def test_a_compressed_body_is_refused_and_never_decompressed(house, served, kind):
    data = bomb(kind)
    assert len(data) < 2**17

    async def attack(client) -> None:
        for path, content_type in ((PATH, "application/json"), (PATH, "image/jpeg"), ("/infer/object_detection",
                                   "application/json"), ("/coco/3", "application/x-www-form-urlencoded"),
                                   ("/v1/chat/completions", "application/json")):  # fmt: skip
            headers = {"content-encoding": kind, "content-type": content_type}
            answer = await client.post(path, content=data, headers=headers)
            assert answer.status_code == 400 and "not decompressed" in answer.text, answer.text
            assert client.service.admission.bytes <= len(data)

    run(house, served, attack)


# ---- chunks and trailers ---------------------------------------------------------------------------------------------


@pytest.mark.attack("100,000 chunks")
def test_a_body_of_a_hundred_thousand_chunks_is_a_body(house, served, picture):
    padded = picture.ljust(100_000, b"\0")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in padded) + b"0\r\n\r\n"

    async def attack(client) -> None:
        found = await statuses(client, request("transfer-encoding: chunked", "x-wait-for-model: true", body=chunks))
        assert found == [200] and house.engine.asked[-1][1] == [padded]

    run(house, served, attack)


BESIDE = {
    "an extension of a chunk": (b"", b"1;" + b"x" * 8192),
    "one extension without end": (b"1;", b"x" * 8192),
    "trailers": (b"1\r\n{\r\n0\r\n", b"x: y\r\n" * 1000),
    "one trailer without end": (b"1\r\n{\r\n0\r\nx: ", b"y" * 8192),
    "leading zeros of a chunk's size": (b"", b"0" * 8192),
}  # fmt: skip


@pytest.mark.attack("endless bytes beside a body")
@pytest.mark.parametrize("name", BESIDE)
def test_what_comes_beside_a_body_is_bounded(house, served, name):
    begin, piece = BESIDE[name]

    async def attack(client) -> None:
        assert await taken(client, request("transfer-encoding: chunked") + begin, piece) < ENOUGH

    run(house, served, attack)


@pytest.mark.attack("endless bytes beside a body")
def test_a_trailer_is_no_header(house, served, picture):
    body = b"%x\r\n%s\r\n0\r\ncontent-encoding: gzip\r\nauthorization: Bearer right\r\n\r\n" % (len(picture), picture)

    async def attack(client) -> None:
        data = request("transfer-encoding: chunked", "x-wait-for-model: true", body=body)
        assert await statuses(client, data) == [200]

    run(house, served, attack)


# ---- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.attack("many headers")
@pytest.mark.parametrize("count", [300, 20_000])
def test_more_headers_than_a_client_has_are_refused(house, served, count):
    async def attack(client) -> None:
        assert await statuses(client, request(*["a:"] * count, method="GET", path="/info")) == [431]

    run(house, served, attack)


ODD = {
    "HTTP/0.9": (b"GET /info\r\n\r\n", (200,)),
    "another version": (b"GET /info HTTP/9.9\r\n\r\n", ()),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), ()),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), ()),
    "a tunnel": (b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nhost: 10.0.0.1:22\r\n\r\n", ()),
    "a proxied request": (b"GET http://10.0.0.1/info HTTP/1.1\r\nhost: localhost\r\n\r\n", (200, 404)),
    "everything": (b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\n\r\n", ()),
    "a path with NUL": (request(method="GET", path="/start/%00/%00"), ()),
    "a path of bytes": (b"GET /\xff\xfe HTTP/1.1\r\nhost: localhost\r\n\r\n", ()),
    "a path up": (request(method="GET", path="/docs/../../../../etc/passwd"), ()),
    "an encoded path up": (request(method="GET", path="/docs/%2e%2e/%2e%2e/%2e%2e/etc/passwd"), ()),
    "a method of its own": (request(method="QUERY", path="/info"), ()),
    "random bytes": (struct.pack("64Q", *range(64)), ()),
}  # fmt: skip


@pytest.mark.attack("malformed requests")
@pytest.mark.parametrize("name", ODD)
def test_a_request_that_is_none_is_refused_and_nothing_fails_inside(house, served, name, caplog):
    data, fine = ODD[name]

    async def attack(client) -> None:
        found = await statuses(client, data)
        assert all(400 <= status < 500 or status in fine for status in found), found
        assert "passwd" not in json.dumps([str(name) for name in house.engine.asked])

    run(house, served, attack)
    assert not [record for record in caplog.records if record.exc_info], "a traceback in the log"
