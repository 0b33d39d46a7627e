"""HTTP compared with its limit, the same work called directly in Python, in alternating windows.

The limit is the better of one process with two threads and two processes with one. Because windows alternate, a machine
that slows down affects both.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import load
import pictures
from served import Served


def limit_worker(
    repository: str, model: str, settings: dict[str, Any], threads: int, jpegs: list[bytes], orders, results
) -> None:  # fmt: skip
    """One process of the limit: for each order (seconds) it works without pauses and reports its milliseconds."""
    import cv2

    from tritonvision.ensembles.in_process import LocalPipeline
    from tritonvision.ensembles.published import entry_points_of, graphs_of
    from tritonvision.pictures import decode
    from tritonvision.publication import Repository

    cv2.setNumThreads(1)
    manifest = Repository(Path(repository)).resolve(model)
    point = entry_points_of(Path(repository), manifest)[0]
    graph = graphs_of(Path(repository), manifest, [point])[""]
    pipeline = LocalPipeline(graph, point.pre, point.head, threads=threads)
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
            self._told()

    def window(self, seconds: float) -> load.Window:
        """Let all workers work without pauses for ``seconds``."""
        for _ in self._workers:
            self._orders.put(seconds)
        times = list(itertools.chain(*(self._told() for _ in self._workers)))
        return load.Window(len(times) / seconds, times, 0)

    def _told(self) -> Any:
        """What one of the workers reports. Raises RuntimeError when one of them ended instead."""
        while True:
            try:
                return self._results.get(timeout=1)
            except queue.Empty:
                if not all(worker.is_alive() for worker in self._workers):
                    raise RuntimeError("A process of the limit ended; what it printed tells why.") from None

    def close(self) -> None:
        """End the workers."""
        for _ in self._workers:
            self._orders.put(None)
        for worker in self._workers:
            worker.join()


@dataclass(frozen=True)
class Question:
    """One picture, asked over HTTP and in process.

    Attributes:
        route, fields: of the HTTP request, whose body is JSON with the picture in base64.
        settings: of the task, for the limit.
    """

    model: str
    route: str
    fields: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def compare(
    question: Question, repository: Path, variants: list[str], concurrency: list[int], seconds: float, rounds: int
) -> dict[str, list[load.Window]]:
    """Measure the limit and each variant of a model, a server for each, in alternating windows.

    Args:
        variants: of the published model, by name; the limit is what was exported, in fp32.

    Returns:
        The windows of each measure, by its name.
    """
    jpegs = pictures.jpegs(32)
    messages = load.requests(question.route, jpegs, model_id=question.model, **question.fields)
    given = (repository, question.model, question.settings)
    limits = [Limit(*given, *shape, jpegs) for shape in ((2, 1), (1, 2))]
    with ExitStack() as stack:
        for limit in limits:
            stack.callback(limit.close)
        measures: dict[str, Callable[[], load.Window]] = {
            "limit, 2 processes x 1 thread": lambda: limits[0].window(seconds),
            "limit, 1 process x 2 threads": lambda: limits[1].window(seconds),
        }
        for variant in variants:
            server = stack.enter_context(serving(repository, question.model, variant))
            load.run(server.port, messages, 4, 3)
            for callers in concurrency:
                measures[f"{variant}, concurrency {callers}"] = (
                    lambda port=server.port, callers=callers: load.run(port, messages, callers, seconds)
                )
        windows: dict[str, list[load.Window]] = {name: [] for name in measures}
        for _ in range(rounds):
            for name, measure in measures.items():
                windows[name].append(measure())
    return windows


@contextmanager
def serving(repository: Path, model: str, variant: str) -> Iterator[Served]:
    """A server of ``model`` as ``variant``, in a repository of its own whose files are links."""
    with tempfile.TemporaryDirectory(dir=repository.parent) as folder:
        own = Path(folder) / "repository"
        shutil.copytree(repository, own, copy_function=os.link)
        command = [sys.executable, "-m", "tritonvision", "variants", "use", model, variant, "--repository", str(own)]
        subprocess.run(command, check=True, capture_output=True)
        with Served(own, model) as server:
            yield server


def report(windows: dict[str, list[load.Window]]) -> None:
    """Print medians over the rounds, and the two ratios that matter, as a table in Markdown."""
    rate = {name: statistics.median(w.per_second for w in rows) for name, rows in windows.items()}
    p50 = {name: statistics.median(w.percentile(0.5) for w in rows) for name, rows in windows.items()}
    best_rate = max(value for name, value in rate.items() if name.startswith("limit"))
    best_p50 = min(value for name, value in p50.items() if name.startswith("limit"))
    print("| | a second | of the limit | p50 ms | over the limit's | p99 ms | failures |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in windows.items():
        p99 = statistics.median(w.percentile(0.99) for w in rows)
        failures = sum(w.failures for w in rows)
        print(
            f"| {name} | {rate[name]:.1f} | {rate[name] / best_rate:.2f} | {p50[name]:.1f} "
            f"| {p50[name] - best_p50:+.1f} | {p99:.1f} | {failures} |"
        )
