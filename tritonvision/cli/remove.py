"""``tritonvision remove``: take a model out of the repository."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from tritonvision.cli.options import ApiKey, Repository, settings_with


def remove(
    model_ids: Annotated[list[str], typer.Argument(metavar="MODEL_ID", help="Ids or aliases of published models.")],
    api_key: ApiKey = None,
    repository: Repository = None,
) -> None:
    """Take published models out of the repository, with their networks; a server on this machine unloads them.

    A model that another published one depends on is not removed, and the command ends with 2. A server that exports
    missing models publishes a model of the catalogue again when it is requested.

    \b
    Examples:
      tritonvision remove yolov8n-640
      tritonvision remove helmets/3 trial/1
    """
    from tritonvision import publication
    from tritonvision.exporters.removal import remove as take_out

    settings = settings_with(repository=repository, api_key=api_key)
    published = publication.Repository(settings.repository)
    for name in model_ids:
        manifest = published.resolve(name)
        freed = take_out(published, manifest)
        _unload(manifest.id, settings.port, settings.api_key)
        typer.echo(f"Removed {manifest.id}, {freed / 1e6:,.1f} MB.")


def _unload(model_id: str, port: int, api_key: str | None) -> None:
    """Unload the model from the server on this machine, if one answers."""
    import httpx

    from tritonvision.cli.models import listens

    if listens(port):
        with contextlib.suppress(httpx.HTTPError):
            httpx.post(
                f"http://127.0.0.1:{port}/model/remove", json={"model_id": model_id, "api_key": api_key},
                timeout=30, trust_env=False,
            )  # fmt: skip
