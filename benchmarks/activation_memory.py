"""Memory of a network's process: the two sessions of ONNX Runtime, for when it is alone and beside others.

    python benchmarks/activation_memory.py --repository DIR net--yolov8n-640 ...     (networks published there)

Each figure is of a process of its own, after both sessions have answered three times: with an arena each, with one
between them, and without memory patterns. The last is what is served.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import machine
import numpy as np

WAYS = ("an arena each", "one arena", "one arena, no memory patterns")


def main() -> None:
    """Print a table in Markdown: megabytes, and milliseconds of one run with two threads."""
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measure(options.repository / options.networks[0] / "1" / "model.onnx", options.way)
        return
    print(f"{machine.describe()}\n\n| network | " + " | ".join(f"{way}: MB, ms" for way in WAYS) + " |")
    print("|---|" + "---|" * len(WAYS))
    for network in options.networks:
        command = [sys.executable, __file__, "--repository", str(options.repository), network, "--way"]
        cells = [subprocess.run([*command, way], check=True, capture_output=True, text=True).stdout for way in WAYS]
        print(f"| {network} | " + " | ".join(map(str.strip, cells)) + " |", flush=True)


def measure(graph: Path, way: str) -> None:
    """In this process: open both sessions, run them, print the memory of the process and the time of a run."""
    import onnxruntime

    if way != WAYS[0]:
        kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
        where = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place)
        onnxruntime.create_and_register_allocator(where, onnxruntime.OrtArenaCfg({}))
    sessions = []
    for threads in (2, 1):
        chosen = onnxruntime.SessionOptions()
        chosen.intra_op_num_threads, chosen.enable_mem_pattern = threads, way != WAYS[2]
        if way != WAYS[0]:
            chosen.add_session_config_entry("session.use_env_allocators", "1")
        sessions.append(onnxruntime.InferenceSession(str(graph), chosen, providers=["CPUExecutionProvider"]))
    kinds = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}
    numbers = np.random.default_rng(0)
    inputs = {
        given.name: numbers.integers(1, 5, [d if isinstance(d, int) else 1 for d in given.shape]).astype(
            kinds[given.type]
        )
        for given in sessions[0].get_inputs()
    }
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(3):
        for which, session in enumerate(sessions):
            began = time.perf_counter()
            session.run(None, inputs)
            times[which].append((time.perf_counter() - began) * 1000)
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    held = {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}
    print(f"{held['Pss']:.0f}, {min(times[0]):.0f}")


if __name__ == "__main__":
    main()
