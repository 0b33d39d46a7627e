"""HTTP byte by byte, as no client sends it."""

from __future__ import annotations

import asyncio
import re

STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")
LAST = b"DELETE /info HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"  # where the connection still stands
LAST_STATUS = 405


def request(*headers: str, body: bytes = b"", method: str = "POST", path: str = "/", version: str = "1.1") -> bytes:
    """The bytes of a request to this machine with these headers."""
    return "\r\n".join((f"{method} {path} HTTP/{version}", "host: localhost", *headers, "", "")).encode() + body


async def answered(port: int, data: bytes) -> bytes:
    """All that is answered to these bytes and to :data:`LAST`, which is sent after them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data + LAST)
    found = b""
    try:
        async with asyncio.timeout(30):
            while piece := await reader.read(65536):
                found += piece
    except ConnectionError:
        pass
    finally:
        writer.close()
    return found


async def statuses(port: int, data: bytes) -> list[int]:
    """The statuses of the answers to these bytes, without that of :data:`LAST`."""
    found = [int(status) for status in STATUS.findall(await answered(port, data))]
    return found[:-1] if found[-1:] == [LAST_STATUS] else found
