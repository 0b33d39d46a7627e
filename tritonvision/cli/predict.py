"""``tritonvision predict``: ask a model about pictures, print the named answers, save the pictures with them drawn in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonvision import catalog
from tritonvision.cli import FAILED, complain
from tritonvision.cli.models import listens, loaded_ids
from tritonvision.cli.options import print_json, settings_with
from tritonvision.errors import InvalidPicture, SetupError, TritonVisionError

_AT_ONCE = 4
_MANY = 4  # pictures from which on a progress bar is worth its line


def predict(
    model_id: Annotated[str, typer.Argument(help="Id or alias, see 'tritonvision models'.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="F", help="Lowest score that counts. Default: the task's.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the pictures with the answers drawn in to this folder.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object a picture.")] = False,
    url: Annotated[
        str | None,
        typer.Option(help="Ask this server. Default: the one on this machine, or one started for the duration."),
    ] = None,
    api_key: Annotated[str | None, typer.Option(metavar="K", help="The server's API key.")] = None,
    repository: Annotated[Path | None, typer.Option(help="Model repository, when no server runs.")] = None,
) -> None:
    """Ask a model about pictures and print what it finds, by name.

    A picture that cannot be read is reported, the others are answered, and the command ends with 1.

    \b
    Examples:
      tritonvision predict mediapipe-face-detection photo.jpg
      tritonvision predict yolov8n-640 *.jpg --confidence 0.5 --save out
      tritonvision predict coco/3 photo.jpg --json --url http://gpu-box:9001
    """
    settings = settings_with(repository=repository, api_key=api_key)
    catalog.check_id(model_id)
    if save is not None:
        _check_drawing()
    outcome = asyncio.run(_ask_all(settings, model_id, images, confidence, url, bool(json)))
    names = iter(_file_names(images, model_id))
    listed, failed = [], False
    for path, found in outcome:
        name = next(names)
        if isinstance(found, TritonVisionError):
            complain(f"{path}: {found.message}", found.hint)
            failed = True
            continue
        predictions = found.predictions(confidence)
        saved = None if save is None else _save(path, found, save / name)
        listed.append({"image": str(path), "model_id": model_id, "predictions": predictions}
                      | ({} if saved is None else {"saved": str(saved)}))  # fmt: skip
        if not json:
            _print(path, predictions, saved)
    if json:
        print_json(listed)
    if failed:
        raise typer.Exit(FAILED)


async def _ask_all(settings, model_id: str, images: Sequence[Path], confidence, url: str | None, quiet: bool):
    """(path, Answer or the error of that picture) in the order of ``images``."""
    source = _source(settings, model_id, confidence, url)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(path: Path):
        async with gate:
            try:
                return path, await source.ask(await asyncio.to_thread(_read, path))
            except InvalidPicture as error:
                return path, error
            except TritonVisionError as error:
                if len(images) > 1 and error.status in (400, 413):  # this picture's fault, not the others'
                    return path, error
                raise

    async with source:
        tasks = [asyncio.create_task(ask(path)) for path in images]
        try:
            with _progress(len(images), quiet) as advance:
                for task in asyncio.as_completed(tasks):
                    await task
                    advance()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]
