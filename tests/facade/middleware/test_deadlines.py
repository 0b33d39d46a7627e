"""Every read and every write has a deadline, on a real port: stalled senders and readers, and what they occupy."""

from __future__ import annotations

import asyncio
import json

import pytest

from tritonvision.facade import connection

DETECTOR = "yolov8n-640"


async def connected(client, request: bytes, **options):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port, **options)
    writer.write(request)
    await writer.drain()
    return reader, writer


def head(length: int) -> bytes:
    return b"POST /infer/object_detection HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % length


@pytest.mark.attack("slow bodies, headers and readers")
def test_a_stalling_sender_gets_an_error_and_holds_no_budget(house, served, until):
    async def main():
        async with served(house, read_timeout=0.2) as client:
            reader, writer = await connected(client, head(1000) + bytes(500))
            await until(lambda: client.service.admission.bytes == 500)
            async with asyncio.timeout(10):
                answer = await reader.read()  # to the end: the connection is closed
            assert answer.startswith(b"HTTP/1.1 408") and b"too slowly" in answer
            assert client.service.admission.bytes == 0
            writer.close()

    asyncio.run(main())


@pytest.mark.attack("slow bodies, headers and readers")
def test_a_slow_sender_is_given_up(house, served):
    async def main():
        async with served(house, read_timeout=0.5) as client:
            reader, writer = await connected(client, head(1000))
            answer = asyncio.create_task(reader.read(12))
            async with asyncio.timeout(10):
                while not answer.done():  # never silent for as long as it may be
                    writer.write(b" ")
                    await asyncio.wait((answer,), timeout=0.1)
            assert answer.result() == b"HTTP/1.1 408"
            writer.close()

    asyncio.run(main())


def test_a_request_without_a_key_takes_no_bytes_of_the_budget(house, served, picture, until):
    async def main():
        async with served(house, api_key="right", max_in_flight_bytes=100_000, max_body_bytes=100_000) as client:
            await house.engine.load(DETECTOR)
            stalled = [await connected(client, head(90_000) + b"{" + b" " * 60_000) for _ in range(8)]
            await until(lambda: len(client.service.requests) == 8)
            bearer = {"authorization": "Bearer right"}
            answer = await client.post(f"/models/{DETECTOR}", content=picture, headers=bearer)
            assert answer.status_code == 200 and client.service.admission.bytes == 0
            for _, writer in stalled:
                writer.close()

    asyncio.run(main())


@pytest.mark.attack("slow bodies, headers and readers")
def test_an_answer_that_is_not_read_is_dropped(house, served, until):
    house.engine.pieces = ["x" * 1_000_000] * 20

    async def main():
        async with served(house, write_timeout=0.3) as client:
            body = json.dumps({"model": "smolvlm-256m", "messages": [{"role": "user", "content": "go"}]}).encode()
            request = head(len(body)).replace(b"/infer/object_detection", b"/v1/chat/completions") + body
            reader, writer = await connected(client, request, limit=1000)
            await until(lambda: client.service.admission.bytes > 10_000_000)  # what waits is counted
            await until(lambda: client.service.admission.bytes == 0)
            assert client.service.admission.pictures == 0
            writer.close()

    asyncio.run(main())


@pytest.mark.attack("slow bodies, headers and readers")
def test_incomplete_headers_close_the_connection(house, served, monkeypatch):
    monkeypatch.setattr(connection, "HEADER_SECONDS", 0.2)

    async def main():
        async with served(house) as client:
            for beginning in (b"", b"GET /info HTTP/1.1\r\nhost: local"):
                reader, writer = await connected(client, beginning)
                async with asyncio.timeout(10):
                    with pytest.raises(ConnectionError):
                        assert await reader.read() == b""
                        raise ConnectionResetError
                writer.close()
            assert (await client.get("/info")).status_code == 200

    asyncio.run(main())


@pytest.mark.attack("slow bodies, headers and readers")
def test_headers_without_end_are_refused(house, served):
    async def main():
        async with served(house) as client:
            reader, writer = await connected(client, b"GET /info HTTP/1.1\r\nx: ")
            async with asyncio.timeout(10):
                answer = asyncio.create_task(reader.read(12))
                while not answer.done():
                    writer.write(b"x" * 16_000)
                    await asyncio.wait((answer,), timeout=0.01)
            assert answer.result() == b"HTTP/1.1 431"
            writer.close()

    asyncio.run(main())
