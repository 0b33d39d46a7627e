"""The effect of one hostile request on other callers: the longest wait for ``/healthz``, and the server's memory.

``python benchmarks/hostile.py --repository DIR``: each kind of request is 60 MB, just under the limit, and is sent once
to a server on 127.0.0.1. The figures depend on the machine: nothing else should run on it.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from served import Served

MODEL = "mediapipe-face-detection"
SIZE = 60 * 2**20
JSON = "application/json"
FORM = "multipart/form-data; boundary=part"


def listed(field: bytes, element: bytes) -> bytes:
    """A JSON object whose list has very many elements."""
    return b'{"model_id":"%s","%s":[' % (MODEL.encode(), field) + element * (SIZE // len(element)) + b"1]}"


def segments() -> bytes:
    """A JPEG of many empty segments."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + b"\xff\xe5\x00\x02" * (SIZE * 3 // 4 // 4) + data[2:]


def pictured(text: bytes) -> bytes:
    """A request for a picture in base64."""
    return b'{"model_id":"%s","image":{"type":"base64","value":"%s"}}' % (MODEL.encode(), text)


KINDS: dict[str, Callable[[], tuple[str, str, bytes]]] = {
    "numbers where pictures belong": lambda: ("/infer/keypoints_detection", JSON, listed(b"image", b"1,")),
    "a list of objects": lambda: ("/infer/keypoints_detection", JSON, listed(b"image", b'{"type":"a","value":1},')),
    "a list nobody reads": lambda: ("/infer/keypoints_detection", JSON, listed(b"unknown", b"1,")),
    "messages": lambda: ("/v1/chat/completions", JSON, listed(b"messages", b'{"role":"user","content":"a"},')),
    "base64 with line breaks": lambda: (
        "/infer/keypoints_detection", JSON, pictured((b"QUFB" * 18 + rb"\n") * (SIZE // 74))
    ),
    "a form of half boundaries": lambda: (
        "/coco/3", FORM, b'--part\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + b"\r\n--par" * (SIZE // 7) + b"\r\n--part--\r\n",
    ),
    "a JPEG of segments": lambda: (f"/models/{MODEL}", "image/jpeg", segments()),
    "the same in base64": lambda: ("/infer/keypoints_detection", JSON, pictured(base64.b64encode(segments()))),
}  # fmt: skip


@contextmanager
def longest_wait(port: int) -> Iterator[list[float]]:
    """Collects the seconds that each ``/healthz`` takes while the block runs."""
    waits: list[float] = []
    over = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        while not over.wait(0.005):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            waits.append(time.perf_counter() - began)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield waits
    finally:
        over.set()
        asking.join()


def megabytes(pid: int, field: str) -> int:
    """``VmRSS`` or ``VmHWM`` of a process."""
    return int(re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) // 1024


def main() -> None:
    """Print one row for each kind of request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True)
    with Served(parser.parse_args().repository, MODEL) as server:
        print("| one request of 60 MB | status | s | longest wait of /healthz, ms | most memory over before, MB |")
        print("|---|---|---|---|---|")
        for name, kind in KINDS.items():
            path, content_type, body = kind()
            before = megabytes(server.pid, "VmRSS")
            Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # resets the peak
            with longest_wait(server.port) as waits:
                began = time.perf_counter()
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=300)
                connection.request("POST", path, body, {"Content-Type": content_type})
                status = connection.getresponse().status
                seconds = time.perf_counter() - began
            grown = megabytes(server.pid, "VmHWM") - before
            print(f"| {name} | {status} | {seconds:.1f} | {max(waits) * 1000:.0f} | {grown} |", flush=True)


if __name__ == "__main__":
    main()
