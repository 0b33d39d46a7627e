"""Seconds from starting ``serve`` to the first answer of one published detector, and the memory of all processes.

    python benchmarks/start_and_memory.py --repository DIR [--model yolov8n-640]
"""

from __future__ import annotations

import argparse
import base64
import statistics
import time
from pathlib import Path

import machine
import pictures
from served import Served


def main() -> None:
    """Measure three starts and print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="yolov8n-640")
    options = parser.parse_args()
    value = base64.b64encode(pictures.jpegs(1)[0]).decode()
    rows = []
    for _ in range(3):
        with Served(options.repository) as server:
            server.post(
                "/infer/object_detection", {"model_id": options.model, "image": {"type": "base64", "value": value}}
            )
            seconds = time.perf_counter() - server.started
            for _ in range(20):
                server.post(
                    "/infer/object_detection", {"model_id": options.model, "image": {"type": "base64", "value": value}}
                )
            rows.append((seconds, server.pss_megabytes(), len(server.processes())))
    print(f"{machine.describe()}; {options.model}, cold server, model loaded by the first request\n")
    print("| start to first answer, s | PSS of all processes after 21 answers, MB | processes |\n|---|---|---|")
    print(" | ".join(["", *(f"{statistics.median(column):.3g}" for column in zip(*rows, strict=True)), ""]).strip())


if __name__ == "__main__":
    main()
