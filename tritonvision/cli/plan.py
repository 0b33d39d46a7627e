"""``tritonvision plan``: the TensorRT plans of published models, and for which GPU they were built."""

from __future__ import annotations

import importlib.metadata
import json as json_format
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from tritonvision import machine, plans
from tritonvision.cli.options import print_json, settings_with
from tritonvision.errors import InvalidParameter, SetupError
from tritonvision.publication import Manifest, Repository
from tritonvision.variants import Variant

_ACTIONS = "list", "build", "prune"


@dataclass(frozen=True)
class Row:
    """One plan as the list shows it.

    Attributes:
        bytes: of the plan, 0 where there is none.
        gpu, tensorrt: that it was built for, empty where that is not known.
        here: why it cannot serve on this machine, empty where it can.
    """

    model: str
    variant: str
    file: str
    bytes: int
    gpu: str
    tensorrt: str
    here: str


def plan(
    action: Annotated[str, typer.Argument(metavar="list|build|prune", help="What to do with the plans.")],
    model_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL_ID]...", help="Published models; all where none is named.")
    ] = None,
    variant: Annotated[
        str, typer.Option(metavar="VARIANT", help="One variant, such as tensorrt-fp16-b8; all of a model by default.")
    ] = "",
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository.")] = None,
    progress: Annotated[bool, typer.Option("--progress", hidden=True)] = False,
    json: Annotated[bool, typer.Option("--json", help="list: print a JSON list.")] = False,
) -> None:
    """Show, build or remove TensorRT plans. A plan serves on the GPU, driver and TensorRT that it was built for alone.

    'build' builds what cannot serve here, for the GPU of this machine; a server does so by itself and answers from ONNX
    Runtime meanwhile. 'prune' removes the plans that cannot serve here; what they are built from stays.

    \b
    Examples:
      tritonvision plan list
      tritonvision plan build yolov8n-640
      tritonvision plan prune
    """
    if action not in _ACTIONS:
        raise InvalidParameter(f"'plan {action[:40]}' is no command.", hint=f"One of: {', '.join(_ACTIONS)}.")
    root = settings_with(repository=repository).repository
    wanted = list(_wanted(Repository(root), model_ids or [], variant))
    if action == "list":
        found = [row for manifest, one in wanted for row in rows(root, manifest, one)]
        print_json([asdict(row) for row in found]) if json else _print(found)
    elif action == "build":
        _build(root, wanted, progress)
    else:
        _prune(root, wanted)


def rows(root: Path, manifest: Manifest, variant: Variant) -> Iterator[Row]:
    """The plans of one variant."""
    gpu, version = machine.gpu(), _tensorrt()
    elsewhere = machine.why_not("tensorrt", variant.precision)
    here = elsewhere or (plans.missing(root, manifest, variant.name, gpu, version) if gpu else elsewhere)
    for place in plans.places(manifest, variant.name):
        path = root / place
        key = plans.read_key(path)
        yield Row(
            manifest.id, variant.name, place, path.stat().st_size if path.is_file() else 0, key.gpu if key else "",
            key.tensorrt if key else "", here,
        )  # fmt: skip


def _wanted(repository: Repository, model_ids: list[str], name: str) -> Iterator[tuple[Manifest, Variant]]:
    manifests = [repository.resolve(model_id) for model_id in model_ids] if model_ids else list(repository)
    for manifest in manifests:
        for variant in manifest.variants:
            if variant.engine == "tensorrt" and name in ("", variant.name):
                yield manifest, variant


def _build(root: Path, wanted: list[tuple[Manifest, Variant]], progress: bool) -> None:
    from tritonvision.exporters import variants

    _require_gpu()
    for manifest, variant in wanted:
        gpu = machine.gpu()
        assert gpu is not None
        if not plans.missing(root, manifest, variant.name, gpu, _tensorrt()):
            typer.echo(f"{manifest.id} has its plans for {gpu.name} as {variant.name} already.")
            continue
        variants.build_plans(root, manifest.id, variant.name, _tell if progress else None)
        typer.echo(f"{manifest.id} has its plans for {gpu.name} as {variant.name}.")


def _prune(root: Path, wanted: list[tuple[Manifest, Variant]]) -> None:
    from tritonvision.exporters import variants

    _require_gpu()  # without one no plan could serve, and all would go
    gone = 0
    for manifest, variant in wanted:
        gpu = machine.gpu()
        assert gpu is not None
        there = [root / place for place in plans.places(manifest, variant.name) if (root / place).is_file()]
        if there and plans.missing(root, manifest, variant.name, gpu, _tensorrt()):
            gone += sum(path.stat().st_size for path in there)
            variants.drop_plans(root, manifest.id, variant.name)
            typer.echo(f"{manifest.id}: the plans of {variant.name} are gone.")
    typer.echo(f"{gone / 1e6:.1f} MB were freed.")


def _require_gpu() -> None:
    missing = machine.why_not("tensorrt", "fp32")
    if missing:
        raise SetupError(
            missing, hint="Plans are built on the machine that will serve them, with the extra trt10 or trt11."
        )


def _tensorrt() -> str:
    try:
        return importlib.metadata.version("tensorrt")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _tell(phase: str, done: float) -> bool:
    """One JSON line on standard output, for the server that began this build."""
    sys.stdout.write(json_format.dumps({"phase": phase, "done": round(done, 3)}) + "\n")
    sys.stdout.flush()
    return True


def _print(found: list[Row]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not found:
        typer.echo("No published model has a TensorRT variant.")
        return
    table = Table(box=None)
    for title in ("model", "variant", "size", "built for", "TensorRT", "here"):
        table.add_column(title, overflow="fold")
    for row in found:
        size, state = f"{row.bytes / 1e6:.1f} MB", row.here or "can serve"
        table.add_row(row.model, row.variant, size, row.gpu or "-", row.tensorrt or "-", state)
    Console().print(table)
