"""``tritonvision predict`` on videos and streams: a line a frame, the answers drawn into a video, ids by tracking."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
import typer

from tritonvision.cli import FAILED, complain
from tritonvision.cli.answers import Answer, lines
from tritonvision.cli.pictures import unused_name
from tritonvision.cli.sources import Source
from tritonvision.client.video.opening import STANDARD_INPUT, is_camera, is_video, open_video, shown_name
from tritonvision.errors import InvalidParameter, InvalidPicture, PictureTooLarge

if TYPE_CHECKING:
    import numpy as np

    from tritonvision.client.video.frames import Frame, Frames
    from tritonvision.client.video.tracking import Tracks
    from tritonvision.client.video.writing import VideoWriter

Say = Callable[[str], None]
_NO_STEM = re.compile(r"[^\w.-]+")


@dataclass
class Watched:
    """What is wanted of the videos of one command.

    Attributes:
        save: a video file, or a folder for one file a video.
        json: whether a line of JSON is printed a frame.
        track: whether objects get ids.
        most: frames that are answered of each video; None for all.
        files: names in the folder that are taken.
    """

    model_id: str
    confidence: float | None
    save: Path | None
    json: bool
    track: bool
    most: int | None
    files: set[str] = field(default_factory=set)

    def target(self, name: str) -> Path | None:
        """The file that the video ``name`` is written to, if any."""
        if self.save is None or _is_file(self.save):
            return self.save
        return self.save / unused_name(_stem(name), self.model_id, ".mp4", self.files)


def are_videos(names: Sequence[str], all_are: bool, wanted: Watched) -> bool:
    """Whether the sources of a command are videos.

    Args:
        all_are: whether a person says so, whatever they are called.

    Raises:
        InvalidParameter: some are and some are not, or an option does not fit.
    """
    count = len(names) if all_are else sum(map(is_video, names))
    if 0 < count < len(names):
        raise InvalidParameter("Pictures and videos go into one command each.", hint="Call predict twice.")
    if not count:
        if wanted.track or wanted.most is not None:
            given = "--track" if wanted.track else "--max-frames"
            raise InvalidParameter(f"{given} is for videos.", hint="Add --video where the source's name tells nothing.")
        return False
    if wanted.save is not None and _is_file(wanted.save):
        from tritonvision.client.video.writing import check_target

        check_target(wanted.save)
        if count > 1:
            raise InvalidParameter("Several videos go into a folder.", hint="Give a folder for --save.")
        if wanted.save.resolve() == Path(names[0]).resolve():
            raise InvalidParameter("The video would be written over itself.", hint="Choose another file for --save.")
    return True


def watch(source: Source, names: Sequence[str], wanted: Watched, say: Say) -> None:
    """Answer every video of ``names``, one after another, and report as the frames come.

    Raises:
        typer.Exit: a video could not be read to its end; the others were.
    """
    try:
        failed = asyncio.run(_watch_all(source, names, wanted, say))
    except BrokenPipeError:  # who reads our lines has had enough, e.g. head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    if failed:
        raise typer.Exit(FAILED)


async def _watch_all(source: Source, names: Sequence[str], wanted: Watched, say: Say) -> bool:
    """Whether a video failed."""
    failed = False
    async with source:
        for name in names:
            try:
                await _watch(source, name, wanted, say)
            except (InvalidPicture, PictureTooLarge) as error:  # an error of this video alone
                complain(f"{shown_name(name)}: {error.message}", error.hint)
                failed = True
    return failed


async def _watch(source: Source, name: str, wanted: Watched, say: Say) -> None:
    """Answer one video; what was answered is written, whatever ends it."""
    from tritonvision.client.video.in_order import in_order

    frames = await asyncio.to_thread(open_video, name, say)
    target = wanted.target(name)
    report = _Report(wanted, frames)
    writer = None if target is None else _writer(target, name, frames, say)

    try:
        async with source.watching() as (answer_to, at_once):

            async def ask(frame: Frame) -> Answer:
                return await answer_to(frame.npy())

            with _progress(frames, wanted.most, report.rate) as advance:
                async with aclosing(in_order(frames, ask, wanted.most, at_once)) as answered:
                    async for frame, answer in answered:
                        ids = report.add(frame, answer)
                        if writer is not None:
                            await asyncio.to_thread(_draw, writer, frame, answer, ids)
                        advance()
        report.whole = wanted.most is None or report.count < wanted.most
    finally:
        if writer is not None:
            writer.close(report.whole)
        if report.count and not wanted.json:
            typer.echo(report.summary(target))


class _Report:
    """What is said about the frames of one video, as they are answered."""

    def __init__(self, wanted: Watched, frames: Frames):
        self._wanted, self._frames = wanted, frames
        self._tracks: Tracks | None = None
        if wanted.track:
            from tritonvision.client.video.tracking import Tracks

            self._tracks = Tracks(frames.rate)
        self.count, self._first = 0, 0.0
        self.whole = False

    def add(self, frame: Frame, answer: Answer) -> np.ndarray | None:
        """Say what was found in ``frame``; the ids of its boxes, if they are tracked."""
        self.count += 1
        if self.count == 1:
            self._first = time.monotonic()  # what came before is the loading of the model
        ids = answer.ids if self._tracks is None else self._tracks.ids(answer.result, frame.time)
        if not self._wanted.json and self._wanted.save is not None:
            return ids
        predictions = answer.predictions(self._wanted.confidence)
        for prediction, number in zip(predictions, [] if ids is None else ids.tolist(), strict=ids is not None):
            prediction["tracker_id"] = number if number >= 0 else None
        if self._wanted.json:
            self._print({
                "video": self._frames.name, "frame": frame.number, "time": round(frame.time, 6),
                "model_id": self._wanted.model_id, "predictions": predictions,
            })  # fmt: skip
        else:
            named = [_with_id(prediction) for prediction in predictions]
            typer.echo("\n".join(lines(f"frame {frame.number}, {frame.time:.2f} s", named)))
        return ids

    def rate(self) -> float:
        """Frames a second since the first answer; 0 until there is a second one."""
        return (self.count - 1) / max(time.monotonic() - self._first, 1e-9)

    def summary(self, target: Path | None) -> str:
        """The line at the end."""
        told = f"{self._frames.name}: {self.count} frame{'s' * (self.count != 1)} answered"
        if self.count > 1:
            told += f", {self.rate():.1f} a second"
        if self._frames.live:
            told += f", {self._frames.skipped} skipped"
        return told if target is None else f"{told}, saved as {target}"

    @staticmethod
    def _print(line: dict[str, Any]) -> None:
        text = orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
        sys.stdout.write(text.decode())
        sys.stdout.flush()


def _with_id(prediction: dict[str, Any]) -> dict[str, Any]:
    number = prediction.get("tracker_id")
    return prediction if number is None else {**prediction, "class": f"{prediction['class']} #{number}"}


def _writer(target: Path, name: str, frames: Frames, say: Say) -> VideoWriter:
    from tritonvision.client.video.sound import Sound
    from tritonvision.client.video.writing import VideoWriter

    again = Path(name).is_file() or urlsplit(name).scheme.lower() in ("http", "https")  # can be opened a second time
    return VideoWriter(target, frames.rate, Sound(name) if again and not frames.live else None, say)


def _draw(writer: VideoWriter, frame: Frame, answer: Answer, ids: np.ndarray | None) -> None:
    import cv2

    from tritonvision.drawing.results import draw

    canvas = cv2.cvtColor(frame.pixels, cv2.COLOR_RGB2BGR)
    writer.add(draw(canvas, answer.result, answer.labels, answer.keypoint_labels, ids=ids), frame.time)


@contextmanager
def _progress(frames: Frames, most: int | None, rate: Callable[[], float]) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error if that is a terminal; yields the function that advances it by a frame."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f} frames a second"), TimeRemainingColumn(),
    )  # fmt: skip
    total = min((n for n in (frames.total, most) if n is not None), default=None)
    # what is printed meanwhile goes above the bar, unless it goes into a file
    bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=sys.stdout.isatty())
    with bar:
        task = bar.add_task(frames.name, total=total, rate=0.0)
        yield lambda: bar.update(task, advance=1, rate=rate())


def _is_file(save: Path) -> bool:
    """Whether ``--save`` names a video and not a folder."""
    return is_video(str(save)) and not save.is_dir()


def _stem(name: str) -> str:
    """What a file made of the video ``name`` is called, without its ending."""
    if name == STANDARD_INPUT:
        return "stdin"
    if is_camera(name):
        return f"camera-{Path(name).name.removeprefix('video')}"
    parts = urlsplit(name)
    if parts.scheme and parts.netloc:
        return _NO_STEM.sub("-", Path(parts.path).stem or parts.hostname or "stream")
    return Path(name).stem
