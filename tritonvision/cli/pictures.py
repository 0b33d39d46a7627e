"""The pictures of a command line: files, folders, patterns, URLs, and standard input."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from tritonvision.errors import InvalidParameter, InvalidPicture, TritonVisionError
from tritonvision.pictures import ENDINGS
from tritonvision.settings import Settings

STANDARD_INPUT = "-"
_MAGIC = "*?["


@dataclass(frozen=True)
class PictureArgument:
    """One picture, not read yet.

    Attributes:
        name: what it is called in the answers.
        problem: why it cannot be read, where that is known already.
    """

    name: str
    problem: InvalidPicture | None = None

    @property
    def stem(self) -> str:
        """What a file made of it is called, without its ending."""
        if self.name == STANDARD_INPUT:
            return "stdin"
        if _is_url(self.name):
            parts = urlsplit(self.name)
            return PurePosixPath(parts.path).stem or parts.hostname or "picture"
        return Path(self.name).stem

    def read(self, settings: Settings) -> bytes:
        """The encoded picture. Raises InvalidPicture, PictureTooLarge."""
        if self.problem is not None:
            raise self.problem
        if self.name == STANDARD_INPUT:
            return sys.stdin.buffer.read()
        if _is_url(self.name):
            from tritonvision.client.images import read_images

            return read_images(self.name, settings)[0]
        return _read_file(Path(self.name))


def pictures_of(arguments: Sequence[str]) -> list[PictureArgument]:
    """The pictures that ``arguments`` name, in order: of a folder the picture files directly in it, by name.

    Raises:
        InvalidParameter: standard input is named twice.
    """
    if list(arguments).count(STANDARD_INPUT) > 1:
        raise InvalidParameter("Standard input is one picture, and '-' was given twice.")
    return [picture for argument in arguments for picture in _expand(argument)]


def unused_name(stem: str, model_id: str, ending: str, taken: set[str]) -> str:
    """``<stem>-<model><ending>`` for a file with answers, counted on where that is ``taken``, to which it is added."""
    first = name = f"{stem}-{model_id.replace('/', '_')}"
    count = 1
    while name in taken:
        count += 1
        name = f"{first}-{count}"
    taken.add(name)
    return f"{name}{ending}"


def read_pictures(arguments: Sequence[str], settings: Settings) -> list[bytes]:
    """Every picture of ``arguments``. Raises what is wrong with the first that cannot be read, with its name."""
    from tritonvision.pictures import read_header

    found = []
    for picture in pictures_of(arguments):
        try:
            found.append(picture.read(settings))
            read_header(found[-1], settings.max_pixels)
        except TritonVisionError as error:
            raise type(error)(f"{picture.name}: {error.message}", hint=error.hint) from error
    return found


def _expand(argument: str) -> Iterator[PictureArgument]:
    if argument == STANDARD_INPUT or _is_url(argument):
        yield PictureArgument(argument)
    elif os.path.isdir(argument):  # not Path.is_dir, which raises for a name that is too long
        yield from _in_folder(Path(argument))
    elif any(sign in argument for sign in _MAGIC) and not os.path.exists(argument):
        matches = sorted(match for match in glob.glob(argument, recursive=True) if Path(match).is_file())
        if not matches:
            yield PictureArgument(argument, InvalidPicture("No file matches this pattern."))
        yield from map(PictureArgument, matches)
    else:
        yield PictureArgument(argument)


def _in_folder(folder: Path) -> Iterator[PictureArgument]:
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())
    except OSError as error:
        yield PictureArgument(str(folder), _unreadable("folder", error))
        return
    if not files:
        yield PictureArgument(str(folder), InvalidPicture("There is no picture in this folder."))
    yield from (PictureArgument(str(file)) for file in files)


def _is_url(argument: str) -> bool:
    return argument.lower().startswith(("http://", "https://"))


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidPicture("There is no such file.") from error
    except OSError as error:
        raise _unreadable("file", error) from error


def _unreadable(what: str, error: OSError) -> InvalidPicture:
    return InvalidPicture(f"The {what} cannot be read: {(error.strerror or 'unknown reason').lower()}.")
