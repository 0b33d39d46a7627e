"""Exports every id that can be exported, at its real input size, and records the gate's figures for ``PARITY.md``.

    python benchmarks/parity_all.py                                  (the export environment; hours)
    python benchmarks/parity_all.py resnet18 "YOLOv8 Seg"            ids, aliases or families
    python benchmarks/parity_all.py --skip-larger-than 400           MB of float32 weights
    python benchmarks/parity_all.py --render                         write PARITY.md anew, run nothing

Weights are random (the face model's released ones come in a wheel). Each model is exported in its own process into a
temporary repository that is deleted afterwards; failures are recorded, and the run continues.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import machine
import parity_table

from tritonvision import catalog
from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Tolerance, kind

OFFICIAL = frozenset({"mediapipe-face-detection"})  # their released weights need no hub
_SEED = re.compile(r"seed (\d+)$")  # from the manifest: the first seed that carries signal, not always the first one


def main() -> None:
    """Run the selected ids; the exit code is 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="ID|FAMILY", help="everything when none is given")
    parser.add_argument("--skip-larger-than", type=float, metavar="MB", help="of float32 weights")
    parser.add_argument("--seed", type=int, default=0, help="the first one to try")
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="for one model")
    parser.add_argument("--render", action="store_true", help="write PARITY.md out of parity.json and do nothing else")
    options = parser.parse_args()
    entries, records = catalog.entries(), parity_table.read()
    failed = 0
    with _shown() as show:
        chosen = [] if options.render else select(options.names, options.skip_larger_than)
        for i, entry in enumerate(chosen):
            show(f"{entry.id} ({i + 1} of {len(chosen)})")
            record = run(entry, options.seed, options.timeout)
            if record["failure"] and entry.upstream_exists is False:
                continue  # the family has no such architecture, and none was released
            if record["failure"]:
                failed += 1
                print(f"{entry.id}: {record['failure']}", file=sys.stderr)
            records = parity_table.merged(records, {entry.id: record})
            parity_table.write(records, entries)  # after each model, so that an interrupted run keeps its results
    parity_table.write(records, entries)
    sys.exit(1 if failed else 0)


def select(names: Sequence[str], megabytes: float | None = None) -> list[Entry]:
    """The entries for names of ids, aliases and families, in catalogue order; without names all that can be exported.
    Exits with a sentence for a name that cannot be exported.
    """
    can = [entry for entry in catalog.entries().values() if entry.family in registry.exportable()]
    chosen = {entry.id for entry in can if not names}
    for name in names:
        found = {e.id for e in can if e.id == catalog.canonical(name) or e.family.lower() == name.lower()}
        if not found:
            sys.exit(f"'{name}' is neither an id nor a family that can be exported.")
        chosen |= found
    return [e for e in can if e.id in chosen and (megabytes is None or 4 * (e.params_m or 0) <= megabytes)]


def run(entry: Entry, seed: int, timeout: float) -> dict:
    """The record of one id, see :mod:`parity_table`."""
    family = registry.find(entry.family)
    points = family.entry_points(entry)
    weights = "official" if entry.id in OFFICIAL else "random"
    record = {
        "head": points[0].name, "weights": weights, "seed": seed, "input": list(points[0].size or ()) or None,
        "figures": {}, "relative": [], "answers": {}, "seconds": 0.0, "machine": machine.describe("torch"),
        "failure": "",
    }  # fmt: skip
    limits, relative = limits_of(points, family.tolerance)
    needs = [need for point in points if isinstance(point, Composition) for need in point.needs]
    with tempfile.TemporaryDirectory(prefix="tritonvision-parity-") as repository:
        for need in needs:
            export(need, "official" if need in OFFICIAL else "random", seed, repository, timeout)
        began = time.monotonic()
        manifest, failure = export(entry.id, weights, seed, repository, timeout)
        record["seconds"] = round(time.monotonic() - began, 1)
    if taken := _SEED.search(manifest.get("source", "")):
        record["seed"] = int(taken[1])
    figures, record["answers"] = parity_table.split_answers(manifest.get("parity", {}))
    record["figures"] = {name: [value, limits[name]] for name, value in figures.items()}
    record["relative"] = [name for name in figures if name in relative]
    record["failure"] = failure.splitlines()[0] if failure else ""
    return record


def limits_of(points: Sequence, tolerance: Tolerance) -> tuple[dict[str, float], set[str]]:
    """The limit of each figure of the gate, by its name in the manifest, and which of them are relative."""
    limits, relative = {}, set()
    for point in points:
        prefix = f"{point.role}_" if point.role else ""
        for name in (tensor.name for net in point.nets for tensor in net.outputs):
            figure = f"{prefix}tensor_{kind(name)}"
            limits[figure] = tolerance.tensor(name)
            if tolerance.is_relative(name):
                relative.add(figure)
        limits |= {f"{prefix}pipeline_{name}": tolerance.answer(name) for name in tolerance.DEFAULTS}
    return limits, relative


def export(
    model_id: str, weights: str, seed: int, repository: str, timeout: float
) -> tuple[dict[str, Any], str]:
    """The manifest and an empty text, or None and the error: its sentence, and its hint in a second line."""
    command = [sys.executable, "-m", "tritonvision", "export", model_id, "--weights", weights, "--seed", str(seed),
               "--engine", "onnxruntime", "--repository", repository, "--json"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {}, f"It was not done after {timeout:g} seconds."
    if done.returncode == 0:
        return json.loads(done.stdout)[0], ""
    lines = done.stderr.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("Error: ")), None)
    if first is None:  # killed by the system, mostly for lack of memory
        return {}, f"Its process ended with {done.returncode} and said nothing."
    return {}, "\n".join(lines[first:]).removeprefix("Error: ")


@contextmanager
def _shown() -> Iterator:
    """Shows which model runs: a line that counts seconds on a terminal, nothing otherwise."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        line = bars.add_task("")
        yield lambda text: bars.reset(line, description=text)


if __name__ == "__main__":
    main()
