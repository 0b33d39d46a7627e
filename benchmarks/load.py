"""HTTP callers over keep-alive sockets, which use little CPU so as not to slow down the server."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import random
import time
from dataclasses import dataclass
from typing import Any


@dataclass
class Window:
    """The result of one window: answers per second, and the milliseconds of each answer."""

    per_second: float
    milliseconds: list[float]
    failures: int

    def percentile(self, q: float) -> float:
        """The ``q``-quantile of the answers' milliseconds."""
        ordered = sorted(self.milliseconds)
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def requests(route: str, jpegs: list[bytes], key: str = "", **fields: Any) -> list[bytes]:
    """Complete HTTP/1.1 requests with ``fields`` and a base64 picture in JSON, as bytes for a socket."""
    head = f"POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {key}\r\n" if key else ""
    messages = []
    for jpeg in jpegs:
        image = {"type": "base64", "value": base64.b64encode(jpeg).decode()}
        body = json.dumps({**fields, "image": image}).encode()
        messages.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return messages


def detections(model: str, jpegs: list[bytes]) -> list[bytes]:
    """:func:`requests` for object detection."""
    return requests("/infer/object_detection", jpegs, model_id=model)


def run(port: int, messages: list[bytes], concurrency: int, seconds: float) -> Window:
    """Send requests to 127.0.0.1:``port`` with ``concurrency`` callers for ``seconds``; each waits for its answer."""
    return asyncio.run(_run(port, messages, concurrency, seconds))


async def _run(port: int, messages: list[bytes], concurrency: int, seconds: float) -> Window:
    turns = itertools.cycle(messages)
    window = Window(0.0, [], 0)
    started = time.perf_counter()
    await asyncio.gather(*(_caller(port, turns, started + seconds, window) for _ in range(concurrency)))
    window.per_second = len(window.milliseconds) / (time.perf_counter() - started)
    return window


async def _caller(port: int, turns, end: float, window: Window) -> None:
    connection = await _open(port)
    while time.perf_counter() < end:
        if not await _ask(*connection, next(turns), time.perf_counter(), window):
            connection = await _open(port)
    connection[1].close()


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port, limit=2**22)


async def _ask(reader: asyncio.StreamReader, writer: Any, message: bytes, asked: float, window: Window) -> bool:
    """Send a request and read its answer, whose milliseconds count from ``asked``; whether the connection goes on.

    A server that replaces itself closes its connections with their answers.
    """
    writer.write(message)
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
    await reader.readexactly(int(fields["content-length"]))
    window.milliseconds.append((time.perf_counter() - asked) * 1000)
    window.failures += b" 200 " not in head[:20]
    goes_on = fields.get("connection") != "close"
    if not goes_on:
        writer.close()
    return goes_on


def poisson(port: int, messages: list[bytes], rate: float, seconds: float) -> Window:
    """Send ``rate`` requests a second at random moments, whether or not earlier ones are answered."""
    return asyncio.run(_poisson(port, messages, rate, seconds))


async def _poisson(port: int, messages: list[bytes], rate: float, seconds: float) -> Window:
    turns, idle, window = itertools.cycle(messages), asyncio.LifoQueue[tuple[Any, Any]](), Window(rate, [], 0)
    gaps = random.Random(0)
    async with asyncio.TaskGroup() as group:
        end = due = time.perf_counter()
        end += seconds
        while (due := due + gaps.expovariate(rate)) < end:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            group.create_task(_arrival(port, next(turns), due, idle, window))
    while not idle.empty():
        idle.get_nowait()[1].close()
    return window


async def _arrival(port: int, message: bytes, due: float, idle: asyncio.LifoQueue, window: Window) -> None:
    """One request over an idle connection, or a new one; its time counts from when it was due."""
    connection = await _open(port) if idle.empty() else idle.get_nowait()
    if await _ask(*connection, message, due, window):
        idle.put_nowait(connection)
