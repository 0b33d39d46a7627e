"""What NVIDIA's parser and builder make of every graph, without a GPU: the table of docs/tensorrt.md.

    .venv-tensorrt/bin/python benchmarks/tensorrt_table.py      (after 'make test-tensorrt')

Each graph is parsed and built, ahead of time for compute capability 8.9, in a process of its own, by the code that
users call. Seconds are those of the machine that ran it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tritonvision import catalog
from tritonvision.ensembles import model_configs, published
from tritonvision.ensembles.entry_points import Net
from tritonvision.errors import ExportFailed, NotSupported
from tritonvision.exporters import registry
from tritonvision.exporters.tensorrt import build
from tritonvision.exporters.tensorrt.profiles import profile
from tritonvision.publication import Repository

ROOT = Path(__file__).parents[1]
REPOSITORY, FURTHER = ROOT / ".cache" / "test_repository", ROOT / ".cache" / "tensorrt_graphs"
DOCUMENT = ROOT / "docs" / "tensorrt.md"
BEGIN, END = "<!-- table: benchmarks/tensorrt_table.py -->", "<!-- end of the table -->"


def main() -> None:
    """Write the table; ``--one`` is how the script calls itself."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=int, default=300, help="that a build may take")
    options.add_argument("--one", type=int)
    given = options.parse_args()
    graphs = sorted(_graphs(), key=lambda graph: (graph[0].lower(), graph[1]))
    if given.one is not None:
        print(json.dumps(_measured(*graphs[given.one][2:])))
        return
    rows = []
    for i, (family, name, graph, net) in enumerate(graphs):
        row = _apart(i, given.seconds)
        rows.append(f"| {family} | `{name}` | {_axes(net)} | {row['parsed']} | {row['built']} |")
        print(rows[-1], f"{graph.stat().st_size >> 20} MB", file=sys.stderr, flush=True)
    head = "| family | graph | free axes | parsed | built: seconds, plan |\n|---|---|---|---|---|\n"
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n{head}" + "\n".join(rows) + f"\n{END}{after}")


def _graphs() -> Iterator[tuple[str, str, Path, Net]]:
    """Family, name, file and network of every graph: of the published models, then the further ones."""
    for manifest in Repository(REPOSITORY):
        points = published.entry_points_of(REPOSITORY, manifest)
        files = published.graphs_of(REPOSITORY, manifest, points)
        for point in points:
            for net in point.nets:
                name = f"{manifest.id} {net.role}".strip()
                inside = model_configs.embedded(point)
                yield manifest.family, f"{name} (inside a process)" if inside else name, files[net.role], net
    for path in sorted(FURTHER.glob("*.onnx")):
        named, _, precision = path.stem.partition("--")
        name, _, role = named.partition("=")
        entry = catalog.find(catalog.from_triton_name(name))
        points = registry.find(entry.family).entry_points(entry)
        net = next(net for point in points for net in point.nets if net.role == role)
        yield entry.family, f"{entry.id} {role or precision}".strip(), path, net


def _axes(net: Net) -> str:
    free = [f"{tensor.name} {tensor.dims.count(-1)}" for tensor in net.inputs if -1 in tensor.dims]
    return ", ".join(free[:3]) + (f" and {len(free) - 3} more inputs" if len(free) > 3 else "") or "-"


def _apart(number: int, seconds: int) -> dict[str, str]:
    command = [sys.executable, __file__, "--one", str(number)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"parsed": "yes", "built": f"not within {seconds} s"}
    if done.returncode:
        return {"parsed": "-", "built": "the process died"}
    return json.loads(done.stdout.splitlines()[-1])


def _measured(graph: Path, net: Net) -> dict[str, str]:
    import tensorrt_rtx_bindings as trt

    try:
        build.parse(trt, graph)
    except ExportFailed as error:
        return {"parsed": error.message, "built": "-"}
    try:
        shapes = profile(net)
    except NotSupported:
        return {"parsed": "yes", "built": "stays on ONNX Runtime: no bounds"}
    begun = time.monotonic()
    try:
        plan = build.build_plan(graph, shapes, build.BuildOptions(capability="8.9"), trt=trt)
    except ExportFailed as error:
        return {"parsed": "yes", "built": error.message}
    return {"parsed": "yes", "built": f"{time.monotonic() - begun:.1f} s, {len(plan) / 1e6:.1f} MB"}


if __name__ == "__main__":
    main()
