"""Memory of an idle server with loaded models: proportional set sizes, compared with a bar.

    python benchmarks/idle_memory.py --repository DIR yolov8n-640 resnet18 ...     (published there)

The bar: for each process 90 MB and 1.5 x the bytes of the graphs that it holds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import machine
from served import Served

_GRAPH = 1.5  # factor for the bytes of a graph
_PROCESS = 90  # MB
_LOAD = 300  # seconds


def main() -> None:
    """Load the models, wait, and print two tables in Markdown: the whole, and each kind of process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+")
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--idle", type=float, default=10.0, help="seconds between loading and looking")
    options = parser.parse_args()
    with Served(options.repository, *options.models) as server:
        _wait_loaded(server, options.models)
        time.sleep(options.idle)
        processes = server.names()
        sizes = {pid: _pss(pid) for pid in processes}
    graphs = {model: _graph_megabytes(options.repository / model) for model in set(processes.values())}
    pss, held = sum(sizes.values()), sum(graphs[model] for model in processes.values())
    bar = _GRAPH * held + _PROCESS * len(processes)
    print(f"{machine.describe()}; idle for {options.idle:g} s after loading {', '.join(options.models)}\n")
    print("| models | processes | graphs, once a process, MB | PSS, MB | bar, MB | of the bar |")
    print("|---|---|---|---|---|---|")
    print(f"| {len(options.models)} | {len(processes)} | {held:.0f} | {pss:.0f} | {bar:.0f} | {pss / bar:.2f} |\n")
    print("| process | how many | graph, MB | PSS of one, MB | bar of one, MB |\n|---|---|---|---|---|")
    kinds = defaultdict(list)
    for pid, model in processes.items():
        kinds[model].append(sizes[pid])
    for model, values in sorted(kinds.items(), key=lambda kind: -max(kind[1])):
        one = f"{max(values):.0f} | {_GRAPH * graphs[model] + _PROCESS:.0f}"
        print(f"| {model} | {len(values)} | {graphs[model]:.0f} | {one} |")


def _wait_loaded(server: Served, models: list[str]) -> None:
    """Return once the registry lists every model. Raises SystemExit after five minutes."""
    deadline = time.monotonic() + _LOAD
    while time.monotonic() < deadline:
        listed = {entry["model_id"] for entry in json.loads(server.get("/model/registry"))["models"]}
        if set(models) <= listed:
            return
        time.sleep(0.5)
    raise SystemExit(f"not loaded within {_LOAD} s: {', '.join(set(models) - listed)}")


def _pss(pid: int) -> float:
    """Proportional set size of one process, MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:"))) * 1024 / 1e6


def _graph_megabytes(model: Path) -> float:
    """Size of the ONNX files of a Triton model, MB; 0 for a model without a network."""
    return sum(path.stat().st_size for path in model.glob("*/*.onnx*")) / 1e6


if __name__ == "__main__":
    main()
