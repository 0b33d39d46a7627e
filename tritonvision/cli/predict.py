"""``tritonvision predict``: ask a model about pictures, print the named answers, save them drawn into the pictures."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonvision import catalog
from tritonvision.cli import FAILED, complain
from tritonvision.cli.answers import Answer, lines
from tritonvision.cli.models import loaded_ids
from tritonvision.cli.options import print_json, settings_with
from tritonvision.cli.question import Question
from tritonvision.cli.question import ask as question_of
from tritonvision.cli.sources import EmbeddedSource, FacadeSource, Source
from tritonvision.errors import InvalidPicture, PictureTooLarge, SetupError, TritonVisionError

_AT_ONCE = 4
_MANY = 4  # pictures from which on a progress bar is worth its line


def predict(
    model_id: Annotated[str, typer.Argument(help="Id or alias, see 'tritonvision models'.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Picture files.")],
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="F", help="Lowest score that counts. Default: the task's.")
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y", help="SAM: a point on what is meant, pixels; X,Y,0 for one that is not. Repeat."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(metavar="LEFT,TOP,RIGHT,BOTTOM", help="SAM: a box around what is meant, pixels.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="A class to look for (Grounding DINO, OWLv2; repeat), a text to compare the picture with (CLIP; "
            "repeat), or the question (SmolVLM).",
        ),
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
    """Ask a model about pictures and print what it finds, by name, or the text that it reads or writes.

    A picture that cannot be read is reported, the others are answered, and the command ends with 1.

    \b
    Examples:
      tritonvision predict mediapipe-face-detection photo.jpg
      tritonvision predict yolov8n-640 *.jpg --confidence 0.5 --save out
      tritonvision predict coco/3 photo.jpg --json --url http://gpu-box:9001
      tritonvision predict sam-vit_b photo.jpg --point 220,140 --save out
      tritonvision predict clip/ViT-B-32 photo.jpg --text "a cat" --text "an astronaut"
      tritonvision predict grounding-dino-tiny photo.jpg --text "a helmet" --text "a flag" --save out
      tritonvision predict doctr-db_mobilenet_v3 letter.png --json
      tritonvision predict trocr-base-printed line.png
      tritonvision predict smolvlm-256m photo.jpg --text "Who is this?"
    """
    settings = settings_with(repository=repository, api_key=api_key)
    catalog.check_id(model_id)
    question = question_of(confidence, point, box, text)
    if save is not None:
        _prepare_saving(save)
    report = _Report(model_id, confidence, save, json)
    asyncio.run(_ask_all(_source(settings, model_id, question, url), images, report))
    report.close()
    if report.failed:
        raise typer.Exit(FAILED)


async def _ask_all(source: Source, images: Sequence[Path], report: _Report) -> None:
    """Ask about every picture, a few at once; report in the order of ``images``."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def ask(path: Path) -> Answer | TritonVisionError:
        async with gate:
            try:
                return await source.ask(await asyncio.to_thread(read_picture, path))
            except (InvalidPicture, PictureTooLarge) as error:  # this picture's fault, not the others'
                return error

    async with source:
        tasks = [asyncio.create_task(ask(path)) for path in images]
        try:
            with _progress(len(images)) as advance:
                for path, task in zip(images, tasks, strict=True):
                    report.add(path, await task)
                    advance()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Report:
    """What the command says about each picture, as it comes; JSON at the end, as one list."""

    def __init__(self, model_id: str, confidence: float | None, save: Path | None, json: bool):
        self._model_id, self._confidence, self._save, self._json = model_id, confidence, save, json
        self._listed: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self.failed = False

    def add(self, path: Path, found: Answer | TritonVisionError) -> None:
        """Say what was found in the picture at ``path``, or what was wrong with it."""
        if isinstance(found, TritonVisionError):
            complain(f"{path}: {found.message}", found.hint)
            self.failed = True
            return
        line = {"image": str(path), "model_id": self._model_id, "predictions": found.predictions(self._confidence)}
        if self._save is not None:
            target = self._save / self._file_name(path)
            save_drawn(path.read_bytes(), found, target)
            line["saved"] = str(target)
        self._listed.append(line)
        if not self._json:
            typer.echo("\n".join(lines(str(path), line["predictions"])))
            if "saved" in line:
                typer.echo(f"  saved as {line['saved']}")

    def close(self) -> None:
        """Print the JSON list, if that is what was asked for."""
        if self._json:
            print_json(self._listed)

    def _file_name(self, path: Path) -> str:
        """``<picture>-<model>.png``, counted on where two pictures share a name."""
        stem = name = f"{path.stem}-{self._model_id.replace('/', '_')}"
        count = 1
        while name in self._names:
            count += 1
            name = f"{stem}-{count}"
        self._names.add(name)
        return f"{name}.png"


def _source(settings, model_id: str, question: Question, url: str | None) -> Source:
    """The server at ``url``, else the one that answers on this machine, else one for the duration."""
    if url is None and loaded_ids(settings.port) is not None:
        url = f"http://127.0.0.1:{settings.port}"
    if url is not None:
        return FacadeSource(url, settings.api_key, model_id, question, note)
    return EmbeddedSource(settings, model_id, question, note)


def note(sentence: str) -> None:
    """What a person should know besides, on standard error."""
    typer.secho(f"Note: {sentence}", err=True, fg="yellow")


def read_picture(path: Path) -> bytes:
    """The bytes of a file. Raises InvalidPicture."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidPicture("There is no such file.") from error
    except OSError as error:
        raise InvalidPicture(f"The file cannot be read: {(error.strerror or 'unknown reason').lower()}.") from error


def _prepare_saving(folder: Path) -> None:
    if find_spec("supervision") is None:
        raise SetupError(
            "Drawing needs the package 'supervision', which is not installed.",
            hint="Get it with: pip install 'tritonvision[client]'",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f"The folder {folder} cannot be made.", hint="Choose another one for --save.") from error


def save_drawn(picture: bytes, answer: Answer, target: Path) -> None:
    """Write the encoded ``picture`` with ``answer`` drawn in to ``target``, a PNG. Raises SetupError."""
    import cv2

    from tritonvision.drawing.results import draw
    from tritonvision.pictures import decode

    canvas = cv2.cvtColor(decode(picture), cv2.COLOR_RGB2BGR)
    drawn = draw(canvas, answer.result, answer.labels, answer.keypoint_labels)
    try:
        target.write_bytes(cv2.imencode(".png", drawn)[1].tobytes())
    except OSError as error:
        raise SetupError(f"{target} cannot be written.", hint="Choose another folder for --save.") from error


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error where somebody watches it; yields what moves it on by one."""
    if total < _MANY or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # what is printed meanwhile goes above the bar, unless it goes into a file
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("Pictures", total=total)
        yield lambda: bar.advance(task)
