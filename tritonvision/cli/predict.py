"""``tritonvision predict``: run a model on pictures, print the named answers, save them drawn into the pictures."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from tritonvision import catalog
from tritonvision.cli import FAILED, complain
from tritonvision.cli.answers import Answer, TextAsItComes, lines
from tritonvision.cli.options import (
    ApiKey,
    MaxTokens,
    OwnRepository,
    SchemaFile,
    Url,
    print_json,
    read_schema,
    settings_with,
)
from tritonvision.cli.pictures import PictureArgument, pictures_of, unused_name
from tritonvision.cli.question import Question
from tritonvision.cli.question import ask as question_of
from tritonvision.cli.sources import EmbeddedSource, FacadeSource, Source, server_to_ask
from tritonvision.cli.video import Watched, are_videos, watch
from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge, SetupError, TritonVisionError
from tritonvision.settings import Settings

Found = tuple[bytes, Answer] | TritonVisionError  # of one picture: its bytes and the answer, or what was wrong with it
_AT_ONCE = 4
_MANY = 4  # a progress bar is shown from this many pictures on


def predict(
    model_id: Annotated[str, typer.Argument(help="Id or alias, see 'tritonvision models'.")],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Files, folders of them, patterns, URLs, or - for stdin. Or videos, addresses of streams (RTSP, RTMP, "
            "HTTP, UDP ...), or the number of a webcam.",
        ),
    ],
    confidence: Annotated[
        float | None, typer.Option(min=0, max=1, metavar="F", help="Lowest score that counts. Default: the task's.")
    ] = None,
    point: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y", help="SAM, SAM2 RT: a point on what is meant, pixels; X,Y,0 for one that is not. Repeat."
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="LEFT,TOP,RIGHT,BOTTOM", help="SAM, SAM2 RT: a box around what is meant, pixels."),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text", "--prompt", metavar="TEXT",
            help="A class to look for (Grounding DINO, OWLv2, YOLO-World; repeat), a text to compare the picture "
            "with (CLIP; repeat), or the question (SmolVLM) or task (Florence-2).",
        ),
    ] = None,
    max_tokens: MaxTokens = None,
    schema: SchemaFile = None,
    save: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write the pictures with the answers drawn in to this folder; or FILE.mp4, of a video."
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list, one object a picture; of videos a line a frame.")
    ] = False,
    track: Annotated[
        bool, typer.Option("--track", help="Videos: give what is found an id that stays from frame to frame.")
    ] = False,
    video: Annotated[bool, typer.Option("--video", help="Take the sources for videos, whatever their names.")] = False,
    max_frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Videos: end after N frames of each.")
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    repository: OwnRepository = None,
) -> None:
    """Ask a model about pictures and print what it finds, by name, or the text that it reads or writes.

    A text about one picture appears as it is written. A picture that cannot be read is reported, the others are
    answered, and the command ends with 1. Of a folder the pictures directly in it are taken. Of a video every frame is
    answered; of a camera or a stream the newest, until Ctrl-C.

    \b
    Examples:
      tritonvision predict mediapipe-face-detection photo.jpg
      tritonvision predict yolov8n-640 photos/ --confidence 0.5 --save out
      tritonvision predict coco/3 photo.jpg --json --url gpu-box:9001
      tritonvision predict coco/3 https://example.com/photo.jpg
      ffmpeg -i film.mp4 -frames 1 -f image2 - | tritonvision predict coco/3 -
      tritonvision predict yolov8n-640 film.mp4 --track --save out.mp4
      tritonvision predict sam2-rt-tiny film.mp4 --box 100,60,330,400 --save out.mp4
      tritonvision predict yolov8n-640 rtsp://camera.local/stream --json
      tritonvision predict sam-vit_b photo.jpg --point 220,140 --save out
      tritonvision predict clip/ViT-B-32 photo.jpg --text "a cat" --text "an astronaut"
      tritonvision predict grounding-dino-tiny photo.jpg --text "a helmet" --text "a flag" --save out
      tritonvision predict doctr-db_mobilenet_v3 letter.png --json
      tritonvision predict trocr-base-printed line.png
      tritonvision predict smolvlm-256m photo.jpg --text "Who is this?" --max-tokens 60
      tritonvision predict smolvlm-256m photo.jpg --text "What is there?" --schema seen.json
      tritonvision predict florence-2-base page.png --prompt "<OCR_WITH_REGION>" --save out
    """
    settings = settings_with(repository=repository, api_key=api_key)
    catalog.check_id(model_id)
    question = question_of(confidence, point, box, text, max_tokens, read_schema(schema))
    watched = Watched(model_id, confidence, save, json, track, max_frames)
    if are_videos(images, video, watched):
        if save is not None:
            _check_drawing()
        watch(_source(settings, model_id, question, url), images, watched, note)
        return
    pictures = pictures_of(images)
    if save is not None:
        _prepare_saving(save)
    report = _Report(model_id, confidence, save, json)
    asyncio.run(_ask_all(_source(settings, model_id, question, url), pictures, report, settings))
    report.close()
    if report.failed:
        raise typer.Exit(FAILED)


async def _ask_all(source: Source, pictures: Sequence[PictureArgument], report: _Report, settings: Settings) -> None:
    """Run the model on every picture, a few at once; report in the order of ``pictures``."""

    async def ask(picture: PictureArgument, said: TextAsItComes) -> Found:
        try:
            data = await asyncio.to_thread(picture.read, settings)
            return data, await source.ask(data, said.add)
        except (InvalidPicture, PictureTooLarge) as error:  # an error of this picture alone
            return error

    under_way: deque[tuple[PictureArgument, TextAsItComes, asyncio.Task[Found]]] = deque()

    async def report_first() -> None:
        picture, said, task = under_way[0]
        report.listen(said)
        report.add(picture, await task, said)
        under_way.popleft()

    async with source:
        try:
            with _progress(len(pictures)) as advance:
                for picture in pictures:
                    if len(under_way) == _AT_ONCE:
                        await report_first()
                        advance()
                    said = TextAsItComes(picture.name, _write)
                    under_way.append((picture, said, asyncio.create_task(ask(picture, said))))
                while under_way:
                    await report_first()
                    advance()
        finally:
            for _, _, task in under_way:
                task.cancel()
            await asyncio.gather(*(task for _, _, task in under_way), return_exceptions=True)


class _Report:
    """What the command says about each picture, as it comes; JSON at the end, as one list."""

    def __init__(self, model_id: str, confidence: float | None, save: Path | None, json: bool):
        self._model_id, self._confidence, self._save, self._json = model_id, confidence, save, json
        self._listed: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self.failed = False

    def listen(self, said: TextAsItComes) -> None:
        """Show a text while it is being written, unless JSON is wanted."""
        if not self._json:
            said.show()

    def add(self, picture: PictureArgument, found: Found, said: TextAsItComes) -> None:
        """Say what was found in ``picture``, or what was wrong with it; ``said`` is what was shown of it already."""
        if said.began:
            _write("\n")
        if isinstance(found, TritonVisionError):
            complain(f"{picture.name}: {found.message}", found.hint)
            self.failed = True
            return
        data, answer = found
        predictions = answer.predictions(self._confidence)
        line = {"image": picture.name, "model_id": self._model_id, "predictions": predictions}
        if answer.text:
            line["text"] = answer.text
        if self._save is not None:
            target = self._save / unused_name(picture.stem, self._model_id, ".png", self._names)
            save_drawn(data, answer, target)
            line["saved"] = str(target)
        if self._json:
            self._listed.append(line)
            return
        if not said.began or answer.text:
            typer.echo("\n".join(lines(picture.name, predictions)))
        if "saved" in line:
            typer.echo(f"  saved as {line['saved']}")

    def close(self) -> None:
        """Print the JSON list, if that is what was asked for."""
        if self._json:
            print_json(self._listed)


def _source(settings: Settings, model_id: str, question: Question, url: str | None) -> Source:
    """The server at ``url``, else the one that answers on this machine, else one for the duration."""
    address = server_to_ask(url, settings.port)
    if address is not None:
        return FacadeSource(address, settings.api_key, model_id, question, note)
    return EmbeddedSource(settings, model_id, question, note)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def note(sentence: str) -> None:
    """A note for the user, on standard error."""
    typer.secho(f"Note: {sentence}", err=True, fg="yellow")


def _check_drawing() -> None:
    if find_spec("supervision") is None:
        raise SetupError(
            "Drawing needs the package 'supervision', which is not installed.",
            hint="Get it with: pip install 'tritonvision[client]'",
        )


def _prepare_saving(folder: Path) -> None:
    from tritonvision.pictures import ENDINGS

    if folder.suffix.lower() in ENDINGS and not folder.is_dir():
        raise InvalidParameter(
            f"--save names a folder, and '{folder.name}' is called like a picture.",
            hint=f"Pictures get names of their own: --save {folder.parent / folder.stem}",
        )
    _check_drawing()
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
    """A progress bar on standard error if that is a terminal; yields the function that advances it."""
    if total < _MANY or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # what is printed meanwhile goes above the bar, unless it goes into a file
    with Progress(console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task("Pictures", total=total)
        yield lambda: bar.advance(task)
