"""``tritonvision models``: every id of the catalogue and every model published here."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tritonvision import catalog
from tritonvision.cli.options import Repository, print_json, settings_with
from tritonvision.errors import InvalidParameter

if TYPE_CHECKING:
    from rich.text import Text

_ASK_SECONDS = 0.5
_GAP = 2  # columns between the parts of a line
_STATE_WIDTH = len("published (random)")
_MADE_UP = "pretrained/"  # ours, for routes that take two segments: the same for every id, so the table leaves it out


@dataclass(frozen=True)
class Row:
    """One model as the table shows it.

    Attributes:
        terms: why the licence has to be accepted, see :mod:`tritonvision.licenses`; else empty.
        exportable: whether this version of tritonvision can export it.
        weights: ``official``, ``random`` or ``user`` once published, else None.
        loaded: None when no server answers on this machine.
    """

    id: str
    family: str
    task: str
    license: str
    terms: str
    aliases: tuple[str, ...]
    exportable: bool
    published: bool
    weights: str | None
    loaded: bool | None


def models(
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of the table.")] = False,
    family: Annotated[str | None, typer.Option(help="Only the families whose name contains this.")] = None,
    published: Annotated[bool, typer.Option("--published", help="Only what is published here.")] = False,
    repository: Repository = None,
) -> None:
    """List every model id: family, task, licence, aliases, and whether it can be exported, is published, is loaded.

    'tritonvision info MODEL_ID' tells more of one.

    \b
    Examples:
      tritonvision models
      tritonvision models --family yolo
      tritonvision models --published --json
    """
    from tritonvision.publication import Repository

    settings = settings_with(repository=repository)
    found = rows(settings)
    for sentence in Repository(settings.repository).left_out():
        typer.echo(f"Warning: {sentence}", err=True)
    if family is not None:
        found = _of_family(found, family)
    if published:
        found = [row for row in found if row.published]
    if json:
        print_json([asdict(row) for row in found])
    else:
        _print_table(found)


def _of_family(found: list[Row], wanted: str) -> list[Row]:
    """The models of the families whose name contains ``wanted``. Raises InvalidParameter where there is none."""
    families = list(dict.fromkeys(row.family for row in found))
    kept = [row for row in found if wanted.lower() in row.family.lower()]
    if not kept:
        near = catalog.similar(wanted, families) or families
        raise InvalidParameter(
            f"No family's name contains '{wanted[:40]}'.", hint=f"There are: {', '.join(near)}."
        )  # fmt: skip
    return kept


def rows(settings) -> list[Row]:
    """Every catalogue entry in catalogue order, then what else is published in ``settings.repository``."""
    from tritonvision import publication
    from tritonvision.exporters import registry

    loaded = loaded_ids(settings.port)
    found = []
    for known, manifest in publication.everything(publication.Repository(settings.repository)):
        entry = known if isinstance(known, catalog.Entry) else None
        can = registry.can_export(entry) if entry else known.family in registry.exportable()
        found.append(Row(
            known.id, known.family, known.task, known.license, entry.terms if entry else "",
            entry.aliases if entry else (), can,
            manifest is not None, manifest.weights if manifest else None, _is_loaded(known.id, loaded),
        ))  # fmt: skip
    return found


def loaded_ids(port: int) -> frozenset[str] | None:
    """Ids that the facade on this machine's ``port`` has loaded, or None when none answers in half a second."""
    listed = registry(port)
    return None if listed is None else frozenset(catalog.canonical(model["model_id"]) for model in listed)


def registry(port: int) -> list[Mapping[str, Any]] | None:
    """What ``/model/registry`` of the facade on this machine's ``port`` lists, or None where none answers in time."""
    if not listens(port):
        return None
    import httpx

    try:
        reply = httpx.get(f"http://127.0.0.1:{port}/model/registry", timeout=_ASK_SECONDS, trust_env=False)
        listed: list[Mapping[str, Any]] = reply.raise_for_status().json()["models"]
        return listed if all(isinstance(model["model_id"], str) for model in listed) else None
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
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    groups: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row.family, row.task, row.license, row.terms), []).append(row)
    for (family, task, license, terms), group in groups.items():
        console.print()
        weights = f"weights: {license}" + (f" ({terms}: --accept-license)" if terms else "")
        console.print(Text.assemble((family, "bold cyan"), "  ", (task, "cyan"), "  ", (weights, "dim")))
        width = max(len(row.id) for row in group)
        for row in group:
            line = Text.assemble("  ", row.id.ljust(width + _GAP), _state(row))
            line.pad_right(2 + width + _GAP + _STATE_WIDTH + _GAP - len(line))
            names = [name for name in row.aliases if not name.startswith(_MADE_UP)]
            line.append(_names_that_fit(names, console.width - len(line)), style="dim")
            line.rstrip()
            console.print(line, no_wrap=True)
    console.print()
    console.print(_summary(found))


def _names_that_fit(names: Sequence[str], width: int) -> str:
    """The first of ``names``, as many as ``width`` holds, and how many more there are."""
    for count in range(len(names), -1, -1):
        more = len(names) - count
        text = ", ".join(names[:count]) + (f"{', ' if count else ''}+{more}" if more else "")
        if len(text) <= width:
            return text
    return ""


def _state(row: Row) -> Text:
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
