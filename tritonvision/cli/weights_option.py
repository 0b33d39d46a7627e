"""``--weights`` of ``tritonvision export``: what is released, random, a file, a package, or lies with somebody else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tritonvision.cli.publishing import Job, read_labels, shown, summary
from tritonvision.errors import InvalidParameter
from tritonvision.vi.questions import GROUNDING, VQA

if TYPE_CHECKING:
    from tritonvision.exporters.contract import Weights
    from tritonvision.exporters.pipeline import Progress
    from tritonvision.publication import Manifest
    from tritonvision.settings import Settings

ROBOFLOW = "roboflow"
_KINDS = ("official", "random")
_RUNS = (VQA, GROUNDING)


def read(
    text: str, seed: int, labels: Path | None, multi_label: bool, size: tuple[int, int] | None,
    head: Path | None = None, base: str | None = None, task: str | None = None, options: Sequence[str] = (),
) -> Weights:  # fmt: skip
    """What ``--weights`` and the options about it say. Raises InvalidParameter."""
    if task not in (None, *_RUNS):
        raise InvalidParameter(f"--task {task!r:.40} is no task of a run.", hint=f"There are: {', '.join(_RUNS)}.")
    from tritonvision.exporters.contract import Weights
    from tritonvision.exporters.sources import hub

    remote = text.startswith(hub.PREFIX)
    if remote:
        hub.Reference.read(text)
    return Weights(
        kind=text if text in _KINDS else "user",
        path=None if remote or text in (*_KINDS, ROBOFLOW) else Path(text).expanduser(),
        source=text if remote else "",
        seed=seed,
        labels=None if labels is None else read_labels(labels),
        multi_label=multi_label,
        size=size,
        head=None if head is None else head.expanduser(),
        base=base or "",
        asked_as=task or "",
        options=tuple(_pair(option) for option in options),
    )


def _pair(text: str) -> tuple[str, str]:
    """Name and value of ``NAME=VALUE``. Raises InvalidParameter."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise InvalidParameter(f"--option {text[:40]!r} is not NAME=VALUE.", hint="--option reco_arch=parseq")
    return name, value


def is_package(weights: Weights) -> bool:
    """Whether the path names a package, which describes itself, and not weights of a family."""
    from tritonvision.exporters.packages.files import CONFIG, INFERENCE, WEIGHTS

    folder = weights.path
    return folder is not None and any((folder / name).is_file() for name in (CONFIG, INFERENCE, WEIGHTS))


def check_of_these(weights: Weights, existing: Manifest, family: str) -> None:
    """Refuse to leave alone what is published where it cannot be of the weights that were named.

    Args:
        family: that was asked for, as the catalogue or a person spells it.

    Raises:
        ExportFailed: there is no such file.
        InvalidParameter: it is of weights of another kind, or of another family.
    """
    from tritonvision.exporters import recognise, weight_files

    if weights.path is not None and not weights.path.exists():
        raise weight_files.missing()
    other_kind = weights.kind not in ("official", existing.weights)  # official is also what nobody named
    if other_kind or recognise.family(family) != existing.family:
        raise InvalidParameter(
            f"'{existing.id}' is published already, of other weights: {existing.source} ({existing.family}).",
            hint="--force replaces it, --as PROJECT/VERSION publishes beside it.",
        )


def targets(
    model_ids: list[str], text: str, weights: Weights, family: str | None, as_id: str | None
) -> list[str]:  # fmt: skip
    """What is published one by one: ids of the catalogue or of projects, or ``as_id`` where the weights tell the rest.

    Raises:
        InvalidParameter: too many names, or too few.
    """
    if as_id is not None and len(model_ids) > 1:
        raise InvalidParameter("--as names one model, and several were given.", hint="Export them one by one.")
    package = is_package(weights)
    if package or text == ROBOFLOW:
        what = "A package describes itself" if package else "A project of Roboflow describes itself"
        told = weights.labels is not None or weights.multi_label or weights.size is not None
        if family is not None or told or weights.base or weights.asked_as:
            raise InvalidParameter(
                f"{what}: --family, --labels, --multi-label, --size, --base and --task are not for it.",
                hint="Leave them out.",
            )
    if package and model_ids:
        raise InvalidParameter(
            "A package describes itself, so it has no id of the catalogue.",
            hint=f"Say: tritonvision export --weights {text} --as PROJECT/VERSION",
        )
    if family is not None and (model_ids or weights.kind != "user"):
        raise InvalidParameter(
            "--family is for weights of yours whose id is not known.",
            hint="tritonvision export --family yolov8 --weights best.pt --as PROJECT/VERSION",
        )
    if model_ids:
        return model_ids
    if text == ROBOFLOW:
        raise InvalidParameter(
            "Which project of Roboflow?", hint="tritonvision export PROJECT/VERSION --weights roboflow"
        )
    if family is None and not package:
        raise InvalidParameter(
            "Which model? Neither an id nor --family is given.", hint="'tritonvision models' lists every id."
        )
    if as_id is None:
        raise InvalidParameter("Weights of yours need an id of their own.", hint="Name it: --as PROJECT/VERSION.")
    return [as_id]


def publish_package(target: str, job: Job, settings: Settings) -> tuple[Manifest, bool]:
    """Import the package that the weights are, or that Roboflow has for the project ``target``.

    Raises:
        InvalidParameter: it brings code.
        ExportFailed, SetupError: it cannot be had, or what is published would not compute what it computes.
    """
    from tritonvision.exporters.packages import import_package
    from tritonvision.publication import Repository

    public_id = job.as_id or target
    existing = None if job.force else Repository(job.root).existing(public_id)
    if job.weights.path is None and existing is not None:
        manifest, fresh = existing, False
    else:
        with shown(public_id, job.quiet) as progress:
            folder = _own(job.weights.path, public_id) if job.weights.path else _of_roboflow(target, settings, progress)
            manifest, fresh = import_package(folder, public_id, job.root, force=job.force, progress=progress)
    if not job.quiet:
        for sentence in manifest.notes if fresh else ():
            typer.echo(f"Note: {sentence}")
        typer.echo(summary(manifest) if fresh else f"{public_id} is published already; --force publishes it again.")
    return manifest, fresh


def _own(folder: Path, public_id: str) -> Path:
    from tritonvision.exporters.packages.files import PackageFolder

    if PackageFolder.of(folder).has_code:
        raise InvalidParameter(
            "The package brings Python code of its own, which an export does not run.",
            hint=f"Read it, and if you trust it: tritonvision import {folder} --as {public_id} --allow-local-code",
        )
    return folder


def _of_roboflow(project: str, settings: Settings, progress: Progress) -> Path:
    from tritonvision.exporters.sources import roboflow
    from tritonvision.exporters.wheel_files import CACHE

    progress.stage("download")
    return roboflow.fetch(project, settings.roboflow_url, settings.roboflow_api_key, CACHE)
