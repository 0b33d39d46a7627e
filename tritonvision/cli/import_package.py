"""``tritonvision import``: an ONNX file or a local package in, a published model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tritonvision.cli.options import settings_with
from tritonvision.cli.publishing import accepting, read_labels, read_size, shown, summary
from tritonvision.errors import InvalidParameter

if TYPE_CHECKING:
    from tritonvision.publication import Manifest

_TASKS = ("object-detection", "instance-segmentation", "classification", "multi-label-classification")


def import_package(
    path: Annotated[
        Path, typer.Argument(metavar="FILE.onnx|DIR|hf:...", help="An ONNX file, or the folder of a package.")
    ],
    as_id: Annotated[str, typer.Option("--as", metavar="PROJECT/VERSION", help="The id to publish it under.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a file: class names, one a line, in the order of the ids.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", "--kind", metavar="TASK", help=f"Of a file: what it does: {', '.join(_TASKS)}."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="SIDE|HxW", help="Of a file that takes any size: that of its pictures.")
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(metavar="MODE", help="Of a file: stretch, letterbox, center-crop, crop-87.5-bicubic and alike."),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(metavar="RANGE", help="Of a file: 0-1, 0-255, -1-1, imagenet, or MEANS/DEVIATIONS in 0..1."),
    ] = None,
    colors: Annotated[str | None, typer.Option(metavar="rgb|bgr", help="Of a file: the order of its colours.")] = None,
    allow_local_code: Annotated[
        bool, typer.Option("--allow-local-code", help="Let the package's own Python code run, here and in the server.")
    ] = False,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Of a file on the hub: accept its licence where one has to.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever is published under that id.")] = False,
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository to publish into.")] = None,
) -> None:
    """Publish an ONNX file, or a package: weights.onnx with inference_config.json and class_names.txt, or code.

    A file as ultralytics, RF-DETR or timm export it (also int8 and fp16) says by its metadata and its outputs what it
    is; what it leaves out is an option. Files and packages are measured like any export: what differs from their own
    graph and description is not published. A package with code (model_config.json naming model_module and model_class,
    or model.py) stays where it is and runs in a process of its own. What has not changed is not published again.

    \b
    Examples:
      tritonvision import best.onnx --as helmets/3
      tritonvision import resnet50.onnx --labels birds.txt --resize crop-87.5-bicubic --normalize imagenet --as birds/1
      tritonvision import hf:somebody/helmets:best.onnx --as helmets/3
      tritonvision import ./helmets --as helmets/4
      tritonvision import ./my-model --as mine/1 --allow-local-code
    """
    from tritonvision.exporters import pipeline
    from tritonvision.exporters.packages import import_package
    from tritonvision.exporters.packages.options import FileOptions
    from tritonvision.exporters.sources import hub

    options = FileOptions(
        None if labels is None else read_labels(labels), _one_of(task, "--task", _TASKS), read_size(size), resize,
        normalize, _one_of(colors, "--colors", ("rgb", "bgr")),
    )  # fmt: skip
    root = settings_with(repository=repository).repository

    def publish(accepted: bool) -> tuple[Manifest, bool]:
        with shown(as_id, quiet=False) as progress:
            remote = str(path).startswith(hub.PREFIX)
            found = pipeline.from_hub(str(path), progress, accepted).path if remote else path.expanduser()
            return import_package(
                found, as_id, root, options=options, allow_code=allow_local_code, force=force, progress=progress
            )

    manifest, fresh = accepting(publish, accept_license)
    if not fresh:
        typer.echo(f"{manifest.id} is published already from {path.name}; --force publishes it again.")
        return
    for sentence in manifest.notes:
        typer.echo(f"Note: {sentence}")
    typer.echo(summary(manifest) if manifest.parity else f"{manifest.id} is published ({manifest.task}).")


def _one_of(given: str | None, option: str, allowed: tuple[str, ...]) -> str | None:
    if given is not None and given not in allowed:
        raise InvalidParameter(f"{option} {given[:40]!r} is not known.", hint=f"One of: {', '.join(allowed)}.")
    return given
