"""Throughput and latency of yolov8n-640 over HTTP, as ratios to the limit of the same run.

The limit is the same work called directly in Python (decode, letterbox, onnxruntime, NMS), the better of one process
with two threads and two processes with one. Windows of both alternate, so that a machine that slows down slows both.

    python benchmarks/detection_speed.py --repository DIR     (yolov8n-640 published there; random weights will do)
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import statistics
import time
from pathlib import Path

import load
import machine
import pictures
from served import Served


def limit_worker(repository: str, threads: int, jpegs: list[bytes], orders, results) -> None:
    """One process of the limit: for each order (seconds) it works flat out and reports its milliseconds."""
    import cv2

    from tritonvision.ensembles.heads import DENSE_BOXES
    from tritonvision.ensembles.local import LocalPipeline
    from tritonvision.ensembles.resize import Resize
    from tritonvision.python_backend.pictures import decode
    from tritonvision.tasks import OBJECT_DETECTION, resolve

    cv2.setNumThreads(1)
    graph = Path(repository) / "net--yolov8n-640" / "1" / "model.onnx"
    pipeline = LocalPipeline(graph, Resize("letterbox", 640, 640), DENSE_BOXES, threads=threads)
    settings = resolve(OBJECT_DETECTION.parameters, {})
    turns = itertools.cycle(jpegs)
    pipeline(decode(next(turns)), settings)
    results.put("ready")
    while (seconds := orders.get()) is not None:
        times, end = [], time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            pipeline(decode(next(turns)), settings)
            times.append((time.perf_counter() - began) * 1000)
        results.put(times)


class Limit:
    """``processes`` workers of ``threads`` threads each, idle between windows."""

    def __init__(self, repository: Path, processes: int, threads: int, jpegs: list[bytes]):
        context = multiprocessing.get_context("spawn")
        self._orders, self._results = context.Queue(), context.Queue()
        self._workers = [
            context.Process(
                target=limit_worker, args=(str(repository), threads, jpegs, self._orders, self._results), daemon=True
            )
            for _ in range(processes)
        ]
        for worker in self._workers:
            worker.start()
        for _ in self._workers:
            self._results.get()

    def window(self, seconds: float) -> load.Window:
        """All workers flat out for ``seconds``."""
        for _ in self._workers:
            self._orders.put(seconds)
        times = list(itertools.chain(*(self._results.get() for _ in self._workers)))
        return load.Window(len(times) / seconds, times, 0)

    def close(self) -> None:
        """End the workers."""
        for _ in self._workers:
            self._orders.put(None)
        for worker in self._workers:
            worker.join()


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    jpegs = pictures.jpegs(32)
    messages = load.detections("yolov8n-640", jpegs)
    two_by_one = Limit(options.repository, 2, 1, jpegs)
    one_by_two = Limit(options.repository, 1, 2, jpegs)
    with Served(options.repository, "yolov8n-640") as server:
        measures = {
            "limit, 2 processes x 1 thread": lambda: two_by_one.window(options.seconds),
            "limit, 1 process x 2 threads": lambda: one_by_two.window(options.seconds),
            **{
                f"HTTP, concurrency {c}": lambda c=c: load.run(server.port, messages, c, options.seconds)
                for c in (1, 2, 4, 16)
            },
        }
        load.run(server.port, messages, 4, 3)
        windows = {name: [] for name in measures}
        for _ in range(options.rounds):
            for name, measure in measures.items():
                windows[name].append(measure())
    two_by_one.close()
    one_by_two.close()
    report(windows, sum(map(len, jpegs)) / len(jpegs))


def report(windows: dict[str, list[load.Window]], mean_bytes: float) -> None:
    """Medians over the rounds, and the two ratios that matter."""
    rate = {name: statistics.median(w.per_second for w in rows) for name, rows in windows.items()}
    p50 = {name: statistics.median(w.percentile(0.5) for w in rows) for name, rows in windows.items()}
    best_rate = max(value for name, value in rate.items() if name.startswith("limit"))
    best_p50 = min(value for name, value in p50.items() if name.startswith("limit"))
    print(f"{machine.describe()}; JPEGs of 1280x720, {mean_bytes / 1000:.0f} KB\n")
    print("| | a second | of the limit | p50 ms | over the limit's | p99 ms | failures |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in windows.items():
        p99 = statistics.median(w.percentile(0.99) for w in rows)
        failures = sum(w.failures for w in rows)
        print(
            f"| {name} | {rate[name]:.1f} | {rate[name] / best_rate:.2f} | {p50[name]:.1f} "
            f"| {p50[name] - best_p50:+.1f} | {p99:.1f} | {failures} |"
        )


if __name__ == "__main__":
    main()
