"""``tritonvision pull``: copy a model repository from where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tritonvision.cli.options import settings_with


def pull(
    source: Annotated[str, typer.Argument(metavar="URL", help="s3://, gs://, az://, oci:// or file:///.")],
    repository: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder to copy into.")] = None,
) -> None:
    """Copy the models of a repository that lies elsewhere, or what changed of them since the last time.

    A model counts when all of its files are those of its manifest; one that is being uploaded stays as it was, and the
    command ends with 1. A running server takes over what changed with the next request. 'tritonvision serve
    --repository URL' does the same by itself, again and again.

    \b
    Examples:
      tritonvision pull s3://models/production --repository /models
      tritonvision pull oci://registry.local/vision/models:2026-11 --repository /models
    """
    from tritonvision.cli import FAILED
    from tritonvision.repository_sources import source_of
    from tritonvision.repository_sources.copying import RepositoryCopy

    folder = settings_with(repository=repository).repository
    changes = RepositoryCopy(source_of(source), folder).look()
    for model in changes.models:
        typer.echo(f"Copied {model}.")
    for name in changes.gone:
        typer.echo(f"Removed {name}.")
    if not changes.models and not changes.gone:
        typer.echo("Nothing changed.")
    for model, why in changes.unfinished.items():
        typer.echo(f"Error: {model} stays as it was: {why}.", err=True)
    if changes.unfinished:
        raise typer.Exit(FAILED)
