"""Exports every id that can be exported, at its real input size, and records the gate's figures for ``PARITY.md``.

    python benchmarks/parity_all.py                                  (the export environment; hours)
    python benchmarks/parity_all.py resnet18 "YOLOv8 Seg"            ids, aliases or families
    python benchmarks/parity_all.py --skip-larger-than 400           MB of float32 weights
    python benchmarks/parity_all.py --reduced "Qwen3-VL"             every part, few layers: where true sizes do not fit
    python benchmarks/parity_all.py --variants resnet18              OpenVINO's bf16 and int8 of it, into variants.json
    python benchmarks/parity_all.py --render                         write PARITY.md anew, run nothing

Weights are random (the face model's released ones come in a wheel). Each model is exported in its own process into a
temporary repository that is deleted afterwards; failures are recorded, and the run continues. Variants are added to
such a model, or to one that ``--repository`` holds, and the figures of its export stay as they are.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import machine
import parity_table

from tritonvision import catalog
from tritonvision.catalog import Entry
from tritonvision.ensembles.entry_points import Composition
from tritonvision.exporters import registry
from tritonvision.exporters.contract import Tolerance, kind
from tritonvision.publication import Repository

OFFICIAL = frozenset({"mediapipe-face-detection"})  # their released weights need no hub
ENGINE, PRECISIONS = "openvino", ("bf16", "int8")  # of the variants
_PEAK = "peak"
_WEIGHTS = "weights"  # folder of reduced ones
_SEED = re.compile(r"seed (\d+)$")  # from the manifest: the first seed that carries signal, not always the first one


def main() -> None:
    """Run the selected ids; the exit code is 1 when one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="ID|FAMILY", help="everything when none is given")
    parser.add_argument("--skip-larger-than", type=float, metavar="MB", help="of float32 weights")
    parser.add_argument("--seed", type=int, default=0, help="the first one to try")
    parser.add_argument("--timeout", type=float, default=3600, metavar="SECONDS", help="for one model")
    parser.add_argument("--reduced", action="store_true", help="networks with every part, but few layers")
    parser.add_argument("--variants", action="store_true", help="which variants pass, instead of the figures")
    parser.add_argument("--precision", choices=PRECISIONS, help="try that variant alone")
    parser.add_argument("--repository", metavar="DIR", help="whose models get the variants; what it lacks is exported")
    parser.add_argument("--render", action="store_true", help="write PARITY.md out of parity.json and do nothing else")
    options = parser.parse_args()
    entries, failed = catalog.entries(), 0
    with _shown() as show:
        chosen = [] if options.render else select(options.names, options.skip_larger_than)
        for i, entry in enumerate(chosen):
            if entry.id in registry.find(entry.family).engine_only:
                continue
            show(f"{entry.id} ({i + 1} of {len(chosen)})")
            if options.variants:
                precisions = (options.precision,) if options.precision else PRECISIONS
                found, failure = tried(entry, options.seed, options.timeout, options.repository, precisions)
                failed += bool(failure)
                print(f"{entry.id}: {failure or found}", file=sys.stderr)
                parity_table.add({}, {entry.id: found} if found else {}, entries)
                continue
            record = run(entry, options.seed, options.timeout, options.reduced)
            if record["failure"] and entry.upstream_exists is False:
                continue  # the family has no such architecture, and none was released
            if record["failure"]:
                failed += 1
                print(f"{entry.id}: {record['failure']}", file=sys.stderr)
            # after each model, so that an interrupted run keeps its results
            parity_table.add({entry.id: record}, {}, entries)
    parity_table.add({}, {}, entries)
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


def run(entry: Entry, seed: int, timeout: float, reduced: bool = False) -> dict:
    """The record of one id, see :mod:`parity_table`.

    Args:
        reduced: whether the network has every part of the id's at a size for tests, as its family writes it.
    """
    family = registry.find(entry.family)
    points = family.entry_points(entry)
    weights = "official" if entry.id in OFFICIAL else "random"
    record = {
        "head": points[0].name, "weights": weights, "seed": seed, "input": list(points[0].size or ()) or None,
        "figures": {}, "relative": [], "answers": {}, "seconds": 0.0, "machine": machine.describe("torch"),
        "peak": 0, "files": 0, "failure": "",
    }  # fmt: skip
    limits, relative = limits_of(points, family.tolerance)
    with tempfile.TemporaryDirectory(prefix="tritonvision-parity-") as repository:
        export_needs(points, seed, repository, timeout)
        began = time.monotonic()
        if reduced:
            record |= {"reduced": True, "input": None}
            module = importlib.import_module(f"tritonvision.exporters.families.{registry.module_name(entry.family)}")
            kinds = getattr(module, "REDUCED_AS", {})  # of families whose ids differ in more than their sizes
            named = {"name": kinds[entry.id]} if entry.id in kinds else {}
            module.save_reduced(Path(repository) / _WEIGHTS, seed, **named)
            weights = str(Path(repository) / _WEIGHTS)
        manifest, failure = export(entry.id, weights, seed, repository, timeout)
        record["seconds"] = round(time.monotonic() - began, 1)
        record["peak"] = manifest.pop(_PEAK, 0)
        name = catalog.triton_name(public_id(entry.id, weights))
        record["files"] = sum(path.stat().st_size for path in Path(repository).glob(f"*{name}*/1/*.onnx*"))
    if taken := _SEED.search(manifest.get("source", "")):
        record["seed"] = int(taken[1])
    figures, record["answers"] = parity_table.split_answers(manifest.get("parity", {}))
    record["figures"] = {name: [value, limits[name]] for name, value in figures.items()}
    record["relative"] = [name for name in figures if name in relative]
    record["failure"] = failure.splitlines()[0] if failure else ""
    return record


def export_needs(points: Sequence, seed: int, repository: str, timeout: float) -> None:
    """Export the models that these entry points ask."""
    for need in [need for point in points if isinstance(point, Composition) for need in point.needs]:
        export(need, "official" if need in OFFICIAL else "random", seed, repository, timeout)


def tried(
    entry: Entry, seed: int, timeout: float, repository: str | None = None, precisions: Sequence[str] = PRECISIONS
) -> tuple[parity_table.Tried, str]:
    """What became of OpenVINO's variants of one id, see :mod:`parity_table`; or why there was nothing to try them on.

    Args:
        timeout: seconds, for the export and for each variant.
        repository: in which the model is, or to which it is exported; None is a temporary one.
    """
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="tritonvision-parity-") as temporary:
        where = repository or temporary
        export_needs(registry.find(entry.family).entry_points(entry), seed, where, timeout)
        _, failure = export(entry.id, "official" if entry.id in OFFICIAL else "random", seed, where, timeout)
        for precision in () if failure else precisions:
            name = f"{ENGINE}-{precision}"
            try:
                refused = _add(entry.id, precision, where, timeout)
            except subprocess.TimeoutExpired:
                print(f"{entry.id}: {name} was not done after {timeout:g} seconds.", file=sys.stderr)
                continue  # that says nothing of it
            added = next((v for v in Repository(Path(where)).resolve(entry.id).variants if v.name == name), None)
            if refused or added is None:
                found[name] = {"refused": refused}
            else:
                found[name] = {"figures": added.figures, "shown": added.shown, "kept_fp32": len(added.kept_fp32)}
    return found, failure


def _add(model_id: str, precision: str, repository: str, timeout: float) -> str:
    """Add a variant; an empty text, or why it was refused, in one line. Raises subprocess.TimeoutExpired."""
    command = [sys.executable, "-m", "tritonvision", "variants", "add", model_id, "--engine", ENGINE,
               "--precision", precision, "--force", "--repository", repository]  # fmt: skip
    code, _, errors, _ = measured(command, timeout)
    return _error(code, errors).splitlines()[0] if code else ""


def public_id(model_id: str, weights: str) -> str:
    """What a model is published as: a user's weights, which reduced ones are like, need an id of their own."""
    return model_id if weights in ("official", "random") else "parity/reduced"


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
    """The manifest, with the peak of its process's memory under ``_PEAK``, and an empty text; or an empty manifest and
    the error: its sentence, and its hint in a second line.
    """
    command = [sys.executable, "-m", "tritonvision", "export", model_id, "--weights", weights, "--seed", str(seed),
               "--engine", "onnxruntime", "--repository", repository, "--json"]  # fmt: skip
    if public_id(model_id, weights) != model_id:
        command += ["--as", public_id(model_id, weights)]
    try:
        code, said, errors, peak = measured(command, timeout)
    except subprocess.TimeoutExpired:
        return {}, f"It was not done after {timeout:g} seconds."
    if code == 0:
        return {**json.loads(said)[0], _PEAK: peak}, ""
    return {}, _error(code, errors)


def _error(code: int, errors: str) -> str:
    """The sentence of a command that failed, and its hint in a second line."""
    lines = errors.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("Error: ")), None)
    if first is None:  # killed by the system, mostly for lack of memory
        return f"Its process ended with {code} and said nothing."
    return "\n".join(lines[first:]).removeprefix("Error: ")


def measured(command: Sequence[str], timeout: float) -> tuple[int, str, str, int]:
    """Run a command: its exit code, what it said, its errors, and the most memory that was its own, in bytes.

    Raises:
        subprocess.TimeoutExpired: it was not done after ``timeout`` seconds, and was ended.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors)
        deadline, peak = time.monotonic() + timeout, 0
        while process.poll() is None:
            # not what the system tells of a child that has ended: that begins with the memory of its parent, and has
            # the files in it that are mapped
            peak = max(peak, _own(process.pid))
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise subprocess.TimeoutExpired(command, timeout)
            time.sleep(0.02)
        said.seek(0)
        errors.seek(0)
        return process.returncode, said.read(), errors.read(), peak


def _own(pid: int) -> int:
    """The memory of a process that is its own, in bytes: all but files, which the system drops where memory is short.
    0 of one that has ended.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.findall(r"^(?:RssAnon|RssShmem):\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * sum(map(int, found))


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
