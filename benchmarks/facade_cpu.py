"""CPU time of the facade's process for a request with a JPEG of 150 KB and an answer of 20 boxes, for each dialect.

    python benchmarks/facade_cpu.py --repository DIR [--seconds 8]     (yolov8n-640 published there)

The models run in other processes, so the CPU time of this one is parsing, the gRPC client and formatting. What it
spends without requests, supervising the tritonserver, is measured first and subtracted.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import load
import machine
import pictures
from served import Served

MODEL, WIRE = "yolov8n-640", "coco/3"
BOXES, PICTURES, BAR = 20, 16, 3.0


def main() -> None:
    """Print a table in Markdown: milliseconds of CPU per request, by route and number of concurrent callers."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    jpegs = pictures.jpegs(PICTURES)
    size = sum(map(len, jpegs)) / len(jpegs) / 1e3
    print(f"{machine.describe()}; random weights, {len(jpegs)} JPEGs of {size:.0f} KB\n")
    print(f"| request | answers | boxes | CPU ms, 1 caller | CPU ms, 4 callers | within {BAR:g} ms |")
    print("|---|---|---|---|---|---|")
    with Served(options.repository, MODEL) as server:
        time.sleep(2)  # until the work of starting has ended
        idle = _cpu_seconds_of(server.pid, lambda: time.sleep(options.seconds)) / options.seconds
        for name, messages in _requests(server, jpegs):
            load.run(server.port, messages, 1, 1.0)  # warm
            found = [_measure(server, messages, callers, options.seconds, idle) for callers in (1, 4)]
            answers, boxes = sum(count for count, _ in found), _boxes(server, messages)
            one, four = (milliseconds for _, milliseconds in found)
            within = "yes" if max(one, four) <= BAR else "no"
            print(f"| {name} | {answers} | {boxes:.0f} | {one:.2f} | {four:.2f} | {within} |")
    print(f"\nIdle: {idle * 1000:.1f} ms a second, taken off.")


def _requests(server: Served, jpegs: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """Name and complete HTTP requests of every way to send a picture."""
    few = {"max_detections": BOXES, "confidence": 0.01}
    yield (
        "Roboflow, `/infer/object_detection`, base64 in JSON",
        load.requests("/infer/object_detection", jpegs, model_id=MODEL, **few),
    )
    query = f"/{WIRE}?confidence=1&max_detections={BOXES}"
    plain = "Content-Type: application/x-www-form-urlencoded"
    yield "Roboflow, `/{project}/{version}`, base64", [_message(query, plain, base64.b64encode(jpeg)) for jpeg in jpegs]
    form = "Content-Type: multipart/form-data; boundary=b"
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="p.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    yield (
        "Roboflow, `/{project}/{version}`, multipart",
        [_message(query, form, head + jpeg + b"\r\n--b--\r\n") for jpeg in jpegs],
    )
    # this dialect has no setting for the number of boxes, so a threshold that about as many exceed
    threshold = _threshold(server, jpegs)
    fresh = "x-use-cache: false\r\n"
    bodies = [
        json.dumps({"inputs": base64.b64encode(jpeg).decode(), "parameters": {"threshold": threshold}}).encode()
        for jpeg in jpegs
    ]
    yield (
        "Hugging Face, `/models/{model}`, base64 in JSON",
        [_message(f"/models/{MODEL}", fresh + "Content-Type: application/json", body) for body in bodies],
    )
    yield (
        "Hugging Face, `/models/{model}`, the file itself",
        [
            _message(f"/models/{MODEL}?threshold={threshold}", fresh + "Content-Type: image/jpeg", jpeg)
            for jpeg in jpegs
        ],
    )


def _message(path: str, headers: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


def _threshold(server: Served, jpegs: list[bytes]) -> float:
    """The score that :data:`BOXES` boxes per picture exceed on average."""
    scores = []
    for jpeg in jpegs:
        image = {"type": "base64", "value": base64.b64encode(jpeg).decode()}
        body = {"model_id": MODEL, "image": image, "confidence": 0.01}
        scores += [p["confidence"] for p in server.post("/infer/object_detection", body)["predictions"]]
    return sorted(scores, reverse=True)[BOXES * len(jpegs)]


def _measure(server: Served, messages: list[bytes], callers: int, seconds: float, idle: float) -> tuple[int, float]:
    """The number of answers, and milliseconds of CPU per request."""
    windows = []
    spent = _cpu_seconds_of(server.pid, lambda: windows.append(load.run(server.port, messages, callers, seconds)))
    window = windows[0]
    if window.failures:
        raise SystemExit(f"{window.failures} requests failed")
    answers = len(window.milliseconds)
    return answers, (spent - idle * answers / window.per_second) / answers * 1000


def _boxes(server: Served, messages: list[bytes]) -> float:
    """The mean number of boxes of an answer."""
    return asyncio.run(_count(server.port, messages))


async def _count(port: int, messages: list[bytes]) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    boxes = 0
    for message in messages:
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if ": " in line)
        found = json.loads(await reader.readexactly(int(fields["content-length"])))
        boxes += len(found if isinstance(found, list) else found["predictions"])
    writer.close()
    return boxes / len(messages)


def _cpu_seconds_of(pid: int, work: Callable[[], object]) -> float:
    """CPU time of all threads of a process while ``work`` runs (``/proc``, nanoseconds of the scheduler)."""
    before = _spent(pid)
    work()
    after = _spent(pid)
    return sum(after[thread] - before.get(thread, 0) for thread in after) / 1e9


def _spent(pid: int) -> dict[str, int]:
    return {task.name: int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()}


if __name__ == "__main__":
    main()
