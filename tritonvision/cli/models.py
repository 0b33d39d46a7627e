"""``tritonvision models``: every id of the catalogue and every model published here."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonvision import catalog
from tritonvision.cli.options import print_json, settings_with

_ASK_SECONDS = 0.5


@dataclass(frozen=True)
class Row:
    """One model as the table shows it.

    Attributes:
        exportable: whether this version of tritonvision can export it.
        weights: ``official``, ``random`` or ``user`` once published, else None.
        loaded: None when no server answers on this machine.
    """

    id: str
    family: str
    task: str
    license: str
    aliases: tuple[str, ...]
    exportable: bool
    published: bool
    weights: str | None
    loaded: bool | None


def models(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
    family: Annotated[str | None, typer.Option(help="Only the families whose name contains this.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Only what is published here.")] = False,
    repository: Annotated[Path | None, typer.Option(help="Model repository to look into.")] = None,
) -> None:
    """List every model id: family, task, licence, aliases, and whether it can be exported, is published, is loaded.

    \b
    Examples:
      tritonvision models
      tritonvision models --family yolo
      tritonvision models --published --json
    """
    found = rows(settings_with(repository=repository))
    if family is not None:
        found = [row for row in found if family.lower() in row.family.lower()]
    if published:
        found = [row for row in found if row.published]
    if json:
        print_json([asdict(row) for row in found])
    else:
        _print_table(found)


def rows(settings) -> list[Row]:
    """Every catalogue entry in catalogue order, then what else is published in ``settings.repository``."""
    from tritonvision.exporters import registry
    from tritonvision.publication import Repository, everything

    loaded = loaded_ids(settings.port)
    found = []
    for entry, manifest in everything(Repository(settings.repository)):
        known = entry or manifest
        can = registry.can_export(entry) if entry else manifest.family in registry.exportable()
        found.append(Row(
            known.id, known.family, known.task, known.license, entry.aliases if entry else (), can,
            manifest is not None, manifest.weights if manifest else None, _is_loaded(known.id, loaded),
        ))  # fmt: skip
    return found


def loaded_ids(port: int) -> frozenset[str] | None:
    """Ids that the facade on this machine's ``port`` has loaded, or None when none answers in half a second."""
    if not listens(port):
        return None
    import httpx

    try:
        reply = httpx.get(f"http://127.0.0.1:{port}/model/registry", timeout=_ASK_SECONDS, trust_env=False)
        listed: list[Mapping[str, Any]] = reply.raise_for_status().json()["models"]
        return frozenset(catalog.canonical(model["model_id"]) for model in listed)
    except (httpx.HTTPError, ValueError, KeyError, TypeError):  # something else listens there, or it wants a key
        return None


def listens(port: int) -> bool:
    """Whether anybody on this machine accepts connections on ``port``."""
    with socket.socket() as probe:
        probe.settimeout(_ASK_SECONDS)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_loaded(model_id: str, loaded: frozenset[str] | None) -> bool | None:
    return None if loaded is None else model_id in loaded


def _print_table(found: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False)
    table.add_column("id", no_wrap=True)
    table.add_column("licence of the weights", max_width=44, style="dim")
    table.add_column("also called", max_width=44, style="dim", overflow="fold")
    table.add_column("state", no_wrap=True)
    heading = license = None
    for row in sorted(found, key=_by_first_appearance(found)):
        if (row.family, row.task) != heading:
            if heading is not None:
                table.add_row()
            heading, license = (row.family, row.task), None
            table.add_row(Text(row.family, style="bold cyan"), Text(row.task, style="cyan"))
        # a licence is said once, and again where it changes
        table.add_row(f"  {row.id}", "" if row.license == license else row.license, "\n".join(row.aliases), _state(row))
        license = row.license
    console = Console(highlight=False)
    console.print(table)
    console.print(_summary(found))


def _by_first_appearance(found: list[Row]):
    order: dict[tuple[str, str], int] = {}
    for row in found:
        order.setdefault((row.family, row.task), len(order))
    return lambda row: order[row.family, row.task]


def _state(row: Row):
    from rich.text import Text

    if not row.published:
        return Text("exportable") if row.exportable else Text("not yet", style="dim")
    words = Text("loaded" if row.loaded else "published", style="green")
    if row.weights == "random":
        words.append(" (random)", style="yellow")
    elif row.weights == "user":
        words.append(" (yours)", style="dim")
    return words


def _summary(found: list[Row]) -> str:
    counts = (
        f"{len(found)} models, {sum(row.exportable for row in found)} exportable, "
        f"{sum(row.published for row in found)} published"
    )
    loaded = (
        "no server answers on this machine, so what is loaded is not known"
        if any(row.loaded is None for row in found)
        else f"{sum(bool(row.loaded) for row in found)} loaded"
    )
    random = any(row.weights == "random" for row in found)
    return f"{counts}; {loaded}." + " The answers of random weights mean nothing." * random
