"""HTTP compared with its limit, the same work called directly in Python, in alternating windows.

The limit is the better of one process with two threads and two processes with one. Because windows alternate, a machine
that slows down affects both.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Any

import load
import machine
import pictures
from served import Served


def limit_worker(
    repository: str, model: str, settings: dict[str, Any], threads: int, jpegs: list[bytes], orders, results
) -> None:  # fmt: skip
    """One process of the limit: for each order (seconds) it works without pauses and reports its milliseconds."""
    import cv2

    from tritonvision.ensembles.in_process import LocalPipeline
    from tritonvision.ensembles.preprocessing import Resize
    from tritonvision.ensembles.schemas import HEADS
    from tritonvision.pictures import decode
    from tritonvision.publication import Repository

    cv2.setNumThreads(1)
    manifest = Repository(Path(repository)).resolve(model)
    graph = Path(repository) / f"net--{manifest.triton_name}" / "1" / "model.onnx"
    pipeline = LocalPipeline(graph, Resize("letterbox", *manifest.input_size), HEADS[manifest.head], threads=threads)
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

    def __init__(
        self, repository: Path, model: str, settings: dict[str, Any], processes: int, threads: int, jpegs: list[bytes]
    ):  # fmt: skip
        # numpy's products on one thread, as in the server's processes: otherwise the workers compete for the cores
        os.environ |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        context = multiprocessing.get_context("spawn")
        self._orders, self._results = context.Queue(), context.Queue()
        given = (str(repository), model, settings, threads, jpegs, self._orders, self._results)
        self._workers = [context.Process(target=limit_worker, args=given, daemon=True) for _ in range(processes)]
        for worker in self._workers:
            worker.start()
        for _ in self._workers:
            self._results.get()

    def window(self, seconds: float) -> load.Window:
        """Let all workers work without pauses for ``seconds``."""
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


def options() -> argparse.Namespace:
    """The command line of these benchmarks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def compare(model: str, settings: dict[str, Any], route: str, fields: dict[str, Any], concurrency: list[int]) -> None:
    """Measure ``model`` and print a table in Markdown.

    Args:
        settings: of the task, for the limit.
        route, fields: the equivalent request.
    """
    given = options()
    jpegs = pictures.jpegs(32)
    messages = load.requests(route, jpegs, model_id=model, **fields)
    limits = [Limit(given.repository, model, settings, *shape, jpegs) for shape in ((2, 1), (1, 2))]
    with Served(given.repository, model) as server:
        measures = {
            "limit, 2 processes x 1 thread": lambda: limits[0].window(given.seconds),
            "limit, 1 process x 2 threads": lambda: limits[1].window(given.seconds),
            **{
                f"HTTP, concurrency {c}": lambda c=c: load.run(server.port, messages, c, given.seconds)
                for c in concurrency
            },
        }
        load.run(server.port, messages, 4, 3)
        windows = {name: [] for name in measures}
        for _ in range(given.rounds):
            for name, measure in measures.items():
                windows[name].append(measure())
    for limit in limits:
        limit.close()
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
