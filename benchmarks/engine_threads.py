"""Whether processes of a network get in each other's way: answers for a second of processor time, by threads.

    python benchmarks/engine_threads.py --repository DIR resnet18 yolov8n-640 ... [--precision bf16]

One process alone and two at once, on OpenVINO with one thread and with two, in windows that alternate. Two processes
keep two cores busy either way: what threads that wait for each other cost is fewer answers for the same time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np


def worker(graph: Path, precision: str, orders: Any, results: Any) -> None:
    """For each order (threads, seconds) it works flat out; reports answers and seconds of processor time."""
    from engines import example

    from tritonvision.python_backend.runtime.engines import open_network

    reference: Any = open_network(graph, threads=1)
    outputs = [output.name for output in reference.get_outputs()]
    inputs: dict[str, np.ndarray] = {given.name: example(given) for given in reference.get_inputs()}
    networks = {threads: open_network(graph, "openvino", precision, threads) for threads in (1, 2)}
    for network in networks.values():
        network.run(outputs, inputs)
    results.put("ready")
    while (order := orders.get()) is not None:
        threads, seconds = order
        answers, began, end = 0, time.process_time(), time.perf_counter() + seconds
        while time.perf_counter() < end:
            networks[threads].run(outputs, inputs)
            answers += 1
        results.put((answers, time.process_time() - began))


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    loads = ", ".join(f"{value:.0f}" for value in os.getloadavg())
    print(f"{machine.describe('openvino')}; {options.precision}; load of the machine {loads}\n")
    print("| network | 1 process, 1 thread | 1 process, 2 threads | 2 processes, 1 thread | 2 processes, 2 threads |")
    print("|---|---|---|---|---|")
    for model in options.models:
        graph = options.repository / f"net--{model}" / "1" / "model.onnx"
        cells = " | ".join(f"{value:.1f}" for value in measure(graph, options.precision, options.rounds))
        print(f"| {model} | {cells} |", flush=True)


def measure(graph: Path, precision: str, rounds: int, seconds: float = 2.0) -> list[float]:
    """Answers for a second of processor time, in the order of the table's columns."""
    context = multiprocessing.get_context("spawn")
    pairs = [(context.Queue(), context.Queue()) for _ in range(2)]
    workers = [context.Process(target=worker, args=(graph, precision, *pair), daemon=True) for pair in pairs]
    for process, (_, results) in zip(workers, pairs, strict=True):
        process.start()
        results.get()
    columns = [(count, threads) for count in (1, 2) for threads in (1, 2)]
    answers, used = dict.fromkeys(columns, 0), dict.fromkeys(columns, 0.0)
    for _ in range(rounds):
        for count, threads in columns:
            for orders, _ in pairs[:count]:
                orders.put((threads, seconds))
            for _, results in pairs[:count]:
                done, took = results.get()
                answers[count, threads] += done
                used[count, threads] += took
    for process, (orders, _) in zip(workers, pairs, strict=True):
        orders.put(None)
        process.join()
    return [answers[column] / used[column] for column in columns]


if __name__ == "__main__":
    main()
