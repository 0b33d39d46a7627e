"""``tritonvision variants``: the ways in which a model's networks can run here, and which of them serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tritonvision.cli import EXIT_CODES
from tritonvision.cli.options import (
    ApiKey,
    Calibrate,
    GateData,
    HardwareCompatible,
    MaxBatch,
    OptimalBatch,
    Repository,
    VersionCompatible,
    Workspace,
    plan_options,
    print_json,
    settings_with,
)
from tritonvision.cli.publishing import shown
from tritonvision.errors import InvalidParameter
from tritonvision.variants import Variant, variant_name

if TYPE_CHECKING:
    from tritonvision.publication import Manifest

ModelId = Annotated[str, typer.Argument(metavar="MODEL_ID", help="Id or alias of a published model.")]
Name = Annotated[str, typer.Argument(metavar="VARIANT", help="Such as openvino-bf16; 'variants MODEL_ID' lists them.")]
Engine = Annotated[str, typer.Option(metavar="onnxruntime|openvino|tensorrt", help="What runs the networks.")]
Precision = Annotated[
    str,
    typer.Option(
        metavar="fp32|bf16|fp16|int8|int4|fp8", help="Of their arithmetic; on ONNX Runtime of the weights of decoders."
    ),
]
_EPILOG = f"""{EXIT_CODES}

\b
Examples:
  tritonvision variants yolov8n-640
  tritonvision variants add yolov8n-640 --engine openvino --precision int8 --calibrate pictures
  tritonvision variants add smolvlm-256m --engine onnxruntime --precision int8
  tritonvision variants use yolov8n-640 openvino-int8
  tritonvision variants use yolov8n-640 onnxruntime-fp32
  tritonvision variants remove yolov8n-640 openvino-int8"""


class _Group(TyperGroup):
    """A group whose first argument may be a model instead of a command: ``variants ID`` shows its variants."""

    def resolve_command(self, ctx, args: list[str]):
        """``show`` where no command is named."""
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


variants = typer.Typer(
    cls=_Group, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True,
    subcommand_metavar="MODEL_ID | COMMAND ...",
    help="Show the variants of a published model - each an engine and a precision - and which of them serves. What was "
    "exported, on ONNX Runtime, is always there; a variant joins it when it has passed the precision gate.",
    epilog=_EPILOG,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One variant as the table shows it.

    Attributes:
        bytes: of the files that it adds.
        milliseconds: of one sample through the networks, None where this machine has not measured it.
        speed: how many times as fast as what was exported, measured beside it; None likewise.
        serves: whether it is what answers here.
        why: why it does not, where the manifest says that it should, or why it cannot.
    """

    name: str
    engine: str
    precision: str
    bytes: int
    figures: dict[str, float]
    shown: str
    kept_fp32: int
    milliseconds: float | None
    speed: float | None
    serves: bool
    why: str


@variants.command("show", hidden=True)
def show(
    model_id: ModelId,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
    repository: Repository = None,
) -> None:
    """Show the variants of a published model."""
    from tritonvision import publication

    settings = settings_with(repository=repository)
    manifest = publication.Repository(settings.repository).resolve(model_id)
    found = rows(manifest, settings.port)
    if json:
        print_json([asdict(row) for row in found])
    else:
        _print(manifest, found)


@variants.command("add")
def add(
    model_id: ModelId,
    engine: Engine,
    precision: Precision,
    calibrate: Calibrate = None,
    gate_data: GateData = None,
    max_batch: MaxBatch = 0,
    optimal_batch: OptimalBatch = 0,
    hardware_compatible: HardwareCompatible = "this",
    version_compatible: VersionCompatible = False,
    workspace: Workspace = 0,
    use_it: Annotated[bool, typer.Option("--use", help="Let it serve at once.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Build it anew where it is there already.")] = False,
    repository: Repository = None,
    api_key: ApiKey = None,
) -> None:
    """Build a variant, let it pass the precision gate, and put it beside what serves. What misses a bar is not kept."""
    settings = settings_with(repository=repository, api_key=api_key)
    manifest = build(
        settings.repository, model_id, engine, precision, calibrate=calibrate, gate_data=gate_data,
        max_batch=max_batch, serve=use_it,
        plan=plan_options(optimal_batch, hardware_compatible, version_compatible, workspace),
        force=force,
    )  # fmt: skip
    if use_it:
        tell_server(manifest.id, settings)
    typer.echo(sentence(manifest, variant_name(engine, precision, max_batch)))


@variants.command("use")
def use(model_id: ModelId, name: Name, repository: Repository = None, api_key: ApiKey = None) -> None:
    """Let a variant serve from now on. A running server changes over without failing a request."""
    from tritonvision.exporters import variants as shop

    settings = settings_with(repository=repository, api_key=api_key)
    manifest = shop.use(settings.repository, model_id, name)
    tell_server(manifest.id, settings)
    typer.echo(f"{manifest.id} is served by {name}.")


@variants.command("remove")
def remove(model_id: ModelId, name: Name, repository: Repository = None) -> None:
    """Take a variant away, with its files. One that serves stays."""
    from tritonvision import publication
    from tritonvision.exporters import variants as shop

    settings = settings_with(repository=repository)
    manifest = publication.Repository(settings.repository).resolve(model_id)
    running = _running(manifest.id, settings.port)
    if running is not None and running[0] == name and manifest.serving != name:
        raise InvalidParameter(
            f"'{name}' of '{manifest.id}' is loaded in a server on this machine, so it stays.",
            hint=f"That server changes over with: tritonvision variants use {manifest.id} {manifest.base_variant}",
        )
    gone = shop.find(manifest, name)
    after = shop.remove(settings.repository, manifest.id, name)
    typer.echo(f"Removed {name} of {after.id}, {(gone.bytes if gone else 0) / 1e6:,.1f} MB.")


def build(repository: Path, model_id: str, engine: str, precision: str, **options: Any) -> Manifest:
    """:func:`tritonvision.exporters.variants.add` with a progress that a person at a terminal sees."""
    from tritonvision.exporters import variants as shop

    with shown(model_id, quiet=False) as progress:
        manifest = shop.add(repository, model_id, engine, precision, progress=progress, **options)
    for notice in progress.notices:
        typer.echo(f"Note: {notice}")
    return manifest


def sentence(manifest: Manifest, name: str) -> str:
    """What was added and how exactly it was proven, in one sentence."""
    variant = next(v for v in manifest.variants if v.name == name)
    gain = f", {variant.base_milliseconds / variant.milliseconds:.1f} times as fast" if variant.milliseconds else ""
    kept = f", {len(variant.kept_fp32)} layers kept in fp32" if variant.kept_fp32 else ""
    serves = "serves now" if manifest.serving == name else f"is there; tritonvision variants use {manifest.id} {name}"
    return f"{name} of {manifest.id} passed the gate ({_figures(variant)}){kept}{gain}: it {serves}."


def rows(manifest: Manifest, port: int) -> list[Row]:
    """What is always there, then every variant; a server on this machine tells what it runs."""
    return list(_rows(manifest, _running(manifest.id, port)))


def _rows(manifest: Manifest, running: tuple[str, str] | None) -> Iterator[Row]:
    from tritonvision import machine

    choice = machine.choice(manifest)
    serving, why = running or (choice.variant.name if choice.variant else manifest.base_variant, choice.why_not)
    here = [v for v in manifest.variants if v.machine == machine.cpu_name()]
    base = here[-1].base_milliseconds if here else None
    yield Row(
        manifest.base_variant, "onnxruntime", manifest.precision, manifest.graph_bytes, manifest.parity, "reference", 0,
        base, None, serving == manifest.base_variant, why,
    )  # fmt: skip
    for variant in manifest.variants:
        yield Row(
            variant.name, variant.engine, variant.precision, variant.bytes, dict(variant.figures), variant.shown,
            len(variant.kept_fp32), variant.milliseconds if variant in here else None,
            variant.base_milliseconds / variant.milliseconds if variant in here and variant.milliseconds else None,
            serving == variant.name,
            machine.why_not(variant.engine, variant.precision),
        )  # fmt: skip


def _running(model_id: str, port: int) -> tuple[str, str] | None:
    """The variant that the server on this machine runs of a model, and why not another; None where it does not say."""
    from tritonvision.cli.models import registry

    return next(
        (
            (model["variant"], model.get("variant_note", ""))
            for model in registry(port) or ()
            if model["model_id"] == model_id and "variant" in model
        ),
        None,
    )


def tell_server(model_id: str, settings: Any) -> None:
    """Let the server on this machine change over now, if it has the model; else the next request lets it."""
    import httpx

    if _running(model_id, settings.port) is not None:
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(
                f"http://127.0.0.1:{settings.port}/model/add",
                json={"model_id": model_id, "api_key": settings.api_key}, timeout=settings.load_timeout,
                trust_env=False,
            )  # fmt: skip


def _figures(variant: Variant) -> str:
    figures = ", ".join(f"{name} {value:.4g}" for name, value in variant.figures.items() if not name.endswith("_fp32"))
    return f"{figures}, by {'labels' if variant.shown == 'labelled' else variant.shown}"


def _time(row: Row) -> str:
    speed = f" ({row.speed:.1f}x)" if row.speed else ""
    return f"{row.milliseconds:.3g}{speed}" if row.milliseconds else "-"


def _print(manifest: Manifest, found: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("variant", "size", "gate", "ms here", ""):
        table.add_column(name, justify="right" if name in ("size", "ms here") else "left", overflow="fold")
    for row in found:
        proven = ", ".join(f"{name} {value:.4g}" for name, value in row.figures.items() if not name.endswith("_fp32"))
        gate = "the reference" if row.shown == "reference" else f"{proven} ({row.shown})"
        if row.kept_fp32:
            gate += f", {row.kept_fp32} layers in fp32"
        state = Text("serves", style="green") if row.serves else Text("")
        if row.why:
            state.append(f"{': ' if row.serves else ''}{row.why}", style="yellow")
        table.add_row(
            row.name, f"{row.bytes / 1e6:,.1f} MB" if row.bytes else "none", gate,
            _time(row), state,
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(Text(manifest.id, style="bold"))
    console.print(table)
