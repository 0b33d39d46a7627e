"""The models of the catalogue and of the local repository, as records for Python callers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tritonvision import catalog
from tritonvision.errors import UnknownModel
from tritonvision.publication import Manifest, Repository, everything


@dataclass(frozen=True)
class ModelEntry:
    """One model.

    Attributes:
        license: of the weights.
        weights: ``official``, ``random`` or ``user``; empty while it is not published, as is ``backend``.
    """

    id: str
    family: str
    task: str
    license: str
    published: bool
    weights: str = ""
    backend: str = ""


@dataclass(frozen=True)
class ModelDescription(ModelEntry):
    """All facts of one model.

    Attributes:
        aliases: other names it answers to.
        input_size: (height, width) of the network's pixels; None where it follows the picture or is unknown.
        class_names: names by class id, once it is published.
        params_m: millions of parameters, where the catalogue knows.
        notes: remarks of its export.
    """

    aliases: tuple[str, ...] = ()
    input_size: tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()
    key_points: tuple[str, ...] = ()
    params_m: float | None = None
    notes: tuple[str, ...] = ()


def list_models(repository: Repository, published_only: bool) -> list[ModelEntry]:
    """Every catalogue entry in catalogue order, then what else is published."""
    return [
        ModelEntry(**(_known(known) if manifest is None else _published(manifest)))
        for known, manifest in everything(repository)
        if manifest is not None or not published_only
    ]


def describe(repository: Repository, name: str) -> ModelDescription:
    """The facts of the model called ``name``. Raises UnknownModel."""
    try:
        manifest = repository.resolve(name)
    except UnknownModel:
        entry = catalog.find(name)
        return ModelDescription(
            **_known(entry), aliases=catalog.names_of(entry.id)[1:], input_size=entry.input_size,
            params_m=entry.params_m,
        )  # fmt: skip
    listed = catalog.entries().get(manifest.id)
    return ModelDescription(
        **_published(manifest), aliases=catalog.names_of(manifest.id)[1:], input_size=manifest.input_size,
        class_names=manifest.labels, key_points=manifest.keypoint_labels,
        params_m=listed.params_m if listed else None, notes=manifest.notes,
    )  # fmt: skip


def show(described: ModelDescription) -> None:
    """Print ``described`` as a table on standard output."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=described.id, show_header=False, title_justify="left")
    for field in fields(described):
        if field.name != "id":
            table.add_row(field.name.replace("_", " "), _shown(getattr(described, field.name)))
    Console(highlight=False, markup=False).print(table)


def _published(manifest: Manifest) -> dict[str, Any]:
    return {
        "id": manifest.id, "family": manifest.family, "task": manifest.task, "license": manifest.license,
        "published": True, "weights": manifest.weights, "backend": manifest.backend,
    }  # fmt: skip


def _known(model: catalog.Entry | Manifest) -> dict[str, Any]:
    return {
        "id": model.id, "family": model.family, "task": model.task, "license": model.license, "published": False,
    }  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        listed = [str(item) for item in value]
        return ", ".join(listed[:12]) + (f", ... ({len(listed)})" if len(listed) > 12 else "")
    return "" if value is None else str(value)
