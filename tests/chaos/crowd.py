"""Callers that ask without a pause and know the right answers: what came in time, what failed, and what was wrong."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from house import FACE
from PIL import Image, ImageOps

_ROUTE = "/infer/keypoints_detection"
# Coordinates may differ by so many pixels, scores by so much: a run with one thread adds in another order.
_PIXELS, _SCORE = 0.5, 0.01
_LATEST = 45.0  # seconds until a request without an answer has failed: longer than the server's own deadline


def pictures() -> list[bytes]:
    """A face, the same face elsewhere, and nothing."""
    photo = Path(__file__).parents[2] / "tritonvision" / "data" / "astronaut.png"
    face = Image.open(photo).convert("RGB")
    shown = [face, ImageOps.mirror(face), face.crop((100, 0, 400, 300)), Image.new("RGB", (320, 240), "green")]
    return [_jpeg(picture) for picture in shown]


def _jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=90)
    return stream.getvalue()


@dataclass
class Seen:
    """What callers saw.

    Attributes:
        seconds: of each right answer.
        wrong: answers with status 200 that are not right.
        failed: by status, or by the name of the connection's error.
        last: ``time.monotonic()`` of the last right answer.
    """

    seconds: list[float] = field(default_factory=list)
    wrong: int = 0
    failed: Counter = field(default_factory=Counter)
    last: float = 0.0

    @property
    def requests(self) -> int:
        """All that ended."""
        return len(self.seconds) + self.wrong + self.failed.total()

    def percentile(self, share: float) -> float:
        """Seconds of the right answers."""
        ordered = sorted(self.seconds) or [float("nan")]
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


class Crowd:
    """``callers`` callers of a server, each with a connection that it keeps. A context manager.

    Args:
        leaves: end a caller when an answer closes its connection, as a load balancer does with a server that stops.

    Attributes:
        seen: what they saw.
        messages: what they send, whole requests.
    """

    def __init__(self, port: int, callers: int = 4, leaves: bool = False):
        self.seen = Seen()
        self._port, self._callers, self._leaves = port, callers, leaves
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        self.messages = [_message(picture) for picture in pictures()]
        self._right = [_right(port, message) for message in self.messages]
        assert self._right[0] and not self._right[-1], "the reference answers are not what is in the pictures"

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def answered_since(self, moment: float) -> bool:
        """Whether a request was answered that began after ``moment``, of ``time.monotonic()``."""
        return self.seen.last > moment

    async def _all(self) -> None:
        turns = itertools.cycle(range(len(self.messages)))
        await asyncio.gather(*(self._caller(turns) for _ in range(self._callers)))

    async def _caller(self, turns: Any) -> None:
        connection = None
        while not self._stop.is_set():
            number, began = next(turns), time.monotonic()
            try:
                async with asyncio.timeout(_LATEST):
                    connection = connection or await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
                    status, closes, body = await _ask(*connection, self.messages[number])
            except (OSError, EOFError, TimeoutError) as error:
                self._note(type(error).__name__, began, number, b"")
                status, closes = 0, True
            else:
                self._note(status, began, number, body)
            if closes:
                if connection is not None:
                    connection[1].close()
                connection = None
                if self._leaves:
                    return
            if status != 200:
                await asyncio.sleep(0.05)

    def _note(self, status: int | str, began: float, number: int, body: bytes) -> None:
        if status != 200:
            self.seen.failed[status] += 1
        elif not alike(_predictions(body), self._right[number]):
            self.seen.wrong += 1
        else:
            self.seen.seconds.append(time.monotonic() - began)
            self.seen.last = began


def _message(picture: bytes) -> bytes:
    body = json.dumps({"model_id": FACE, "image": {"type": "base64", "value": base64.b64encode(picture).decode()}})
    head = f"POST {_ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def _ask(reader: asyncio.StreamReader, writer: Any, message: bytes) -> tuple[int, bool, bytes]:
    """The status of an answer, whether it closes the connection, and its body."""
    writer.write(message)
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    body = await reader.readexactly(int(fields["content-length"]))
    return int(head.split()[1]), fields.get("connection") == "close", body


def _right(port: int, message: bytes) -> list[dict]:
    async def ask() -> list[dict]:
        connection = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        status, _, body = await _ask(*connection, message)
        connection[1].close()
        assert status == 200, body
        return _predictions(body)

    return asyncio.run(ask())


def _predictions(body: bytes) -> list[dict]:
    return json.loads(body)["predictions"]


def alike(found: Any, right: Any) -> bool:
    """Whether two answers say the same, but for the ids that each answer draws anew."""
    if isinstance(right, dict):
        named = [key for key in right if key != "detection_id"]
        bars = {key: _SCORE if "confidence" in key else _PIXELS for key in named}
        return isinstance(found, dict) and all(
            abs(found[key] - right[key]) <= bars[key] if isinstance(right[key], float) and key in found
            else alike(found.get(key), right[key]) for key in named
        )  # fmt: skip
    if isinstance(right, list):
        return isinstance(found, list) and len(found) == len(right) and all(map(alike, found, right))
    return found == right
