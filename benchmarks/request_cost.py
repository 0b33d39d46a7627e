"""Where the processor time of a request goes: of each process that works on it, by callers at once.

    python benchmarks/request_cost.py --repository DIR resnet18 yolov8n-640 ...     (published there)

Each request is another JPEG of 150 KB, answers from memory turned off. What the kernel counts for a process does not
depend on what else the machine does, apart from caches that others use. Whichever variant serves is measured: choose it
with ``tritonvision variants use``.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from pathlib import Path

import load
import machine
import pictures
from served import Served

HEADERS = "Host: localhost\r\nContent-Type: image/jpeg\r\nx-use-cache: false"


def main() -> None:
    """Print a table in Markdown: milliseconds of processor time a request."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    jpegs = pictures.jpegs(16)
    loads = ", ".join(f"{value:.0f}" for value in os.getloadavg())
    print(f"{machine.describe('openvino')}; load of the machine {loads}\n")
    print("| model | callers | answers | pre | network | post | tritonserver | facade | together |")
    print("|---|---|---|---|---|---|---|---|---|")
    for model in options.models:
        with Served(options.repository, model) as server:
            messages = [_message(model, jpeg) for jpeg in jpegs]
            load.run(server.port, messages, 2, options.seconds / 2)  # warm, in both processes of each step
            for callers in (1, 4):
                print(row(server, model, messages, callers, options.seconds), flush=True)


def row(server: Served, model: str, messages: list[bytes], callers: int, seconds: float) -> str:
    """One line of the table."""
    names = server.names()
    before = {pid: processor_seconds(pid) for pid in names}
    answers = len(load.run(server.port, messages, callers, seconds).milliseconds)
    spent: Counter[str] = Counter()
    for pid, name in names.items():
        spent[name.partition("--")[0]] += (processor_seconds(pid) - before[pid]) * 1000 / answers
    cells = " | ".join(f"{spent[kind]:.1f}" for kind in ("pre", "net", "post", "tritonserver", "facade"))
    return f"| {model} | {callers} | {answers} | {cells} | {sum(spent.values()):.1f} |"


def processor_seconds(pid: int) -> float:
    """What a process has used so far, all its threads together."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _message(model: str, jpeg: bytes) -> bytes:
    return f"POST /models/{model} HTTP/1.1\r\n{HEADERS}\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode() + jpeg


if __name__ == "__main__":
    main()
