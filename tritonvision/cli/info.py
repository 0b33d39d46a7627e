"""``tritonvision info``: all that is known of one model, and how to ask it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from tritonvision import catalog, tasks
from tritonvision.cli.models import loaded_ids
from tritonvision.cli.options import Repository, print_json, settings_with
from tritonvision.publication import Manifest

_WIDTH = 12  # of the names of the facts
_MOST_NAMES = 12
# Tasks whose question is the picture alone: one curl line asks them.
_BY_CURL = frozenset(
    task.name
    for task in (
        tasks.OBJECT_DETECTION, tasks.KEYPOINT_DETECTION, tasks.INSTANCE_SEGMENTATION, tasks.CLASSIFICATION,
        tasks.DEPTH_ESTIMATION, tasks.EMBEDDING, tasks.STRUCTURED_OCR, tasks.TEXT_OCR,
    )
)  # fmt: skip
# What a question needs besides, on the command line.
_ALSO: Mapping[str, str] = {
    tasks.PROMPTABLE.name: " --point 220,140", tasks.OPEN_VOCABULARY.name: ' --text "a cat"',
    tasks.VLM.name: ' --text "What is this?"',
}  # fmt: skip


def info(
    model_id: Annotated[str, typer.Argument(help="Id or alias, see 'tritonvision models'.")],
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    repository: Repository = None,
) -> None:
    """Tell what a model is, what it is called, whose its weights are, how exactly it was proven, and how to ask it.

    \b
    Examples:
      tritonvision info yolov8n-640
      tritonvision info coco/3 --json
    """
    settings = settings_with(repository=repository)
    facts = _facts(settings, model_id)
    if json:
        print_json(facts)
    else:
        typer.echo("\n".join(_lines(facts, settings.port)))


def _facts(settings: Any, name: str) -> dict[str, Any]:
    """By name what the catalogue and the manifest know. Raises UnknownModel, BrokenModel."""
    from tritonvision import publication
    from tritonvision.errors import UnknownModel
    from tritonvision.exporters import registry

    known: publication.Manifest | catalog.Entry
    try:
        known = publication.Repository(settings.repository).resolve(name)
    except UnknownModel:
        known = catalog.find(name)
    entry = catalog.entries().get(known.id)
    loaded = loaded_ids(settings.port)
    facts = {
        "id": known.id, "family": known.family, "task": known.task, "license": known.license,
        "terms": getattr(known, "terms", ""),  # what is published has been accepted
        "aliases": catalog.names_of(known.id)[1:], "input_size": known.input_size,
        "params_m": entry.params_m if entry else None,
        "exportable": registry.can_export(entry) if entry else known.family in registry.exportable(),
        "published": isinstance(known, publication.Manifest), "loaded": None if loaded is None else known.id in loaded,
    }  # fmt: skip
    return facts | (
        _published(known) if isinstance(known, publication.Manifest)
        else {"weights": None, "source": known.weights_source}
    )  # fmt: skip


def _published(manifest: Manifest) -> dict[str, Any]:
    names = (
        "weights", "source", "sha256", "labels", "keypoint_labels", "needs", "graph_bytes", "parity", "versions",
        "notes", "serving",
    )  # fmt: skip
    variants = [manifest.base_variant, *(variant.name for variant in manifest.variants)]
    return {name: getattr(manifest, name) for name in names} | {"variants": variants}


def _lines(facts: Mapping[str, Any], port: int) -> Iterator[str]:
    yield f"{facts['id']}  {facts['family']}  {facts['task']}"
    for name, value in _rows(facts):
        if value:
            yield from textwrap.wrap(
                value, 80, initial_indent=f"  {name:<{_WIDTH}}", subsequent_indent=" " * (_WIDTH + 2),
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
    yield ""
    if not facts["published"]:
        accepted = " --accept-license" if facts["terms"] else ""
        line = f"  tritonvision export {facts['id']}{accepted}"
        yield line if facts["exportable"] else "  This version cannot export it yet."
        return
    yield f"  tritonvision predict {facts['id']} photo.jpg{_ALSO.get(facts['task'], '')}"
    if facts["task"] in _BY_CURL:
        yield f"  curl --data-binary @photo.jpg http://localhost:{port}/models/{facts['id']}"


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "state", _state(facts)
    yield "also called", _listed(facts["aliases"])
    yield "licence", facts["license"] + (f" ({facts['terms']}: it has to be accepted)" if facts["terms"] else "")
    height, width = facts["input_size"] or (0, 0)
    yield "input", f"{width} x {height} pixels" if height else "follows the picture"
    yield "parameters", f"{facts['params_m']:g} million" if facts["params_m"] else ""
    labels = facts.get("labels", ())
    yield "classes", f"{len(labels)}: {_listed(labels)}" if labels else ""
    yield "key points", _listed(facts.get("keypoint_labels", ()))
    yield "weights", " from ".join(filter(None, (facts["weights"], facts["source"])))
    yield "sha256", facts.get("sha256", "")
    yield "on disk", f"{facts['graph_bytes'] / 1e6:,.1f} MB of graphs" if facts.get("graph_bytes") else ""
    yield "runs as", _runs_as(facts)
    yield "asks", _listed(facts.get("needs", ()))
    yield "proven", ", ".join(f"{name} {value:.3g}" for name, value in facts.get("parity", {}).items())
    for note in facts.get("notes", ()):
        yield "note", note


def _runs_as(facts: Mapping[str, Any]) -> str:
    """The variant that serves, and the others where there are some."""
    base, *others = facts.get("variants", ("",))
    serving = facts.get("serving") or base
    rest = [name for name in (base, *others) if name != serving]
    return f"{serving}; also there: {', '.join(rest)}" if rest else serving


def _state(facts: Mapping[str, Any]) -> str:
    if not facts["published"]:
        return "not published here"
    return {None: "published", True: "published, loaded", False: "published, not loaded"}[facts["loaded"]]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
