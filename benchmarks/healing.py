"""``kill -9`` of one Python stub after another under load: failed requests, time to recovery, leaked shared memory.

    python benchmarks/healing.py --repository DIR [--model yolov8n-640]
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
import time
from pathlib import Path

import load
import machine
import pictures
from served import Served

from tritonvision import heartbeat
from tritonvision.server import stubs

_KILLS = 10
_APART = 5.0


def main() -> None:
    """Kill ten stubs under a load of four callers and print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", default="yolov8n-640")
    options = parser.parse_args()
    messages = load.detections(options.model, pictures.jpegs(16))
    before = set(os.listdir("/dev/shm"))
    with Served(options.repository, options.model) as server:
        triton = next(p for p in server.processes() if Path(f"/proc/{p}/comm").read_text().strip() == "tritonserver")
        expected = len(stubs.of_server(triton))
        windows: list[load.Window] = []
        seconds = _KILLS * _APART + 3
        loader = threading.Thread(target=lambda: windows.append(load.run(server.port, messages, 4, seconds)))
        loader.start()
        rows = []
        for kill in range(_KILLS):
            time.sleep(_APART - 3)
            victim = newest(triton)[kill * 5 % expected]
            os.kill(victim.pid, signal.SIGKILL)
            rows.append((victim.model, healed_after(triton, victim)))
            time.sleep(max(3 - rows[-1][1], 0))
        loader.join()
        time.sleep(12)
        regions = len([name for name in set(os.listdir("/dev/shm")) - before if name.startswith("triton_")])
    left = len([name for name in set(os.listdir("/dev/shm")) - before if name.startswith("triton_")])
    window = windows[0]
    print(f"{machine.describe()}; {options.model}, four callers, one kill every {_APART:g} s\n")
    print("| killed | new process up after, s |\n|---|---|")
    for model, seconds in rows:
        print(f"| {model} | {seconds:.2f} |")
    slowest = max(window.milliseconds) / 1000
    print(f"\n{len(window.milliseconds)} answers, {window.failures} failed; slowest {slowest:.2f} s.")
    print(f"Shared memory: {regions} regions for {expected} processes while serving, {left} left after the end.")


def newest(triton: int) -> list[stubs.Stub]:
    """The two newest processes of each model: older ones may still be ending."""
    by_model: dict[str, list[stubs.Stub]] = {}
    for stub in sorted(stubs.of_server(triton).values(), key=lambda stub: stub.pid):
        by_model.setdefault(stub.model, []).append(stub)
    return [stub for model in sorted(by_model) for stub in by_model[model][-2:]]


def folder_of(triton: int) -> Path:
    """The folder of the heartbeats of this tritonserver's processes."""
    variables = Path(f"/proc/{triton}/environ").read_text().split("\0")
    return Path(dict(pair.split("=", 1) for pair in variables if "=" in pair)[heartbeat.FOLDER_VARIABLE])


def healed_after(triton: int, victim: stubs.Stub) -> float:
    """Seconds until new processes serve the model of the killed one."""
    began = time.perf_counter()
    known = {pid for pid, stub in stubs.of_server(triton).items() if stub.model == victim.model}
    while time.perf_counter() - began < 10:
        now = {pid for pid, stub in stubs.of_server(triton).items() if stub.model == victim.model}
        beating = {pid for pid in now - known if (folder_of(triton) / str(pid)).exists()}
        if len(beating) >= 2:
            return time.perf_counter() - began
        time.sleep(0.02)
    return float("inf")


if __name__ == "__main__":
    main()
