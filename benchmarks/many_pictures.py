"""Sixteen pictures in one request against sixteen requests one after another, in alternating turns.

    python benchmarks/many_pictures.py --repository DIR [MODEL ...] [--rounds 8]

HTTP with base64 JSON. Sixteen requests are asked by one caller, who waits for each, and by four together.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import statistics
import time
from pathlib import Path

import load
import machine
import pictures
from served import Served
from speed import QUESTIONS

COUNT = 16


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", default=["yolov8n-640"])
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=8)
    given = parser.parse_args()
    jpegs = pictures.jpegs(COUNT)
    print(f"{machine.describe()}; {COUNT} JPEGs of 1280x720, medians of {given.rounds}\n")
    print("| model | one request, s | 16 requests of one caller, s | ratio | 16 requests of four callers, s | ratio |")
    print("|---|---|---|---|---|---|")
    for model in given.models:
        question = QUESTIONS[model]
        single = load.requests(question.route, jpegs, model_id=model, **question.fields)
        values = [{"type": "base64", "value": base64.b64encode(jpeg).decode()} for jpeg in jpegs]
        body = json.dumps({"model_id": model, "image": values, **question.fields}).encode()
        head = f"POST {question.route} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        whole = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body]
        with Served(given.repository, model) as server:
            ways = [whole], [single], [single[i::4] for i in range(4)]
            for way in ways:  # warm
                seconds(server.port, way)
            rows = [[seconds(server.port, way) for way in ways] for _ in range(given.rounds)]
        together, one, four = (statistics.median(column) for column in zip(*rows, strict=True))
        ratios = [statistics.median(row[i] / row[0] for row in rows) for i in (1, 2)]
        print(f"| {model} | {together:.3f} | {one:.3f} | {ratios[0]:.2f} | {four:.3f} | {ratios[1]:.2f} |")


def seconds(port: int, callers: list[list[bytes]]) -> float:
    """Until each caller has asked all of its requests, one after another."""

    async def caller(messages: list[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
        for message in messages:
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
            if b" 200 " not in head[:20]:
                raise SystemExit(f"A request failed: {head.splitlines()[0].decode()}")
        writer.close()

    async def all_of_them() -> float:
        began = time.perf_counter()
        await asyncio.gather(*map(caller, callers))
        return time.perf_counter() - began

    return asyncio.run(all_of_them())


if __name__ == "__main__":
    main()
