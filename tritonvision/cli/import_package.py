"""``tritonvision import``: a local package in, a published model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritonvision.cli.export import shown, summary
from tritonvision.cli.options import settings_with


def import_package(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the package.")],
    as_id: Annotated[str, typer.Option("--as", metavar="PROJECT/VERSION", help="The id to publish it under.")],
    allow_local_code: Annotated[
        bool, typer.Option("--allow-local-code", help="Let the package's own Python code run, here and in the server.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace whatever is published under that id.")] = False,
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Model repository to publish into.")] = None,
) -> None:
    """Publish a local package: weights.onnx with inference_config.json and class_names.txt, or code of its own.

    A package of weights is measured like any export: what differs from its own graph and description is not
    published. A package with code (model_config.json naming model_module and model_class, or model.py) stays where it
    is and runs in a process of its own. An unchanged package is not published again.

    \b
    Examples:
      tritonvision import ./helmets --as helmets/3
      tritonvision import ./my-model --as mine/1 --allow-local-code
    """
    from tritonvision.exporters.packages import import_package

    root = settings_with(repository=repository).repository
    with shown(as_id, quiet=False) as progress:
        manifest, fresh = import_package(
            directory.expanduser(), as_id, root, allow_code=allow_local_code, force=force, progress=progress
        )
    if not fresh:
        typer.echo(f"{manifest.id} is published already from this package; --force publishes it again.")
        return
    for sentence in manifest.notes:
        typer.echo(f"Note: {sentence}")
    typer.echo(summary(manifest) if manifest.parity else f"{manifest.id} is published ({manifest.task}).")
