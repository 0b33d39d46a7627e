"""The pictures that a call of ``ViModel`` names: files, folders, addresses, data URLs."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonvision.client.images import read_images
from tritonvision.errors import InvalidPicture
from tritonvision.settings import Settings
from tritonvision.vi.errors import ViError, ViFileNotFoundError, ViValidationError

_ENDINGS = (
    "jpg jpeg png bmp gif tiff tif webp svg ico ppm pgm pbm pnm jfif jp2 jpx j2k heic heif avif".split()
)
_SUFFIXES = frozenset(f".{ending}" for each in _ENDINGS for ending in (each, each.upper()))
_ADDRESSES = ("http://", "https://", "data:")
_LONGEST = 200  # characters of a name in a message


@dataclass(frozen=True)
class Sources:
    """What a call is about.

    Attributes:
        listed: a picture each, in order: a path or an address; or why there is none.
        several: whether the caller named a list or a folder, and so gets a list, of however many.
    """

    listed: list[str | ViError]
    several: bool


def resolve(source: Any, recursive: bool = False) -> Sources:
    """The pictures that ``source`` names, in its order, none twice but where the caller names it twice.

    Args:
        source: a path, an http(s) address or a ``data:`` URL, or a list of these. Of a folder all pictures count, by
            their endings and sorted by path; files that are named count whatever their ending is.
        recursive: whether folders within folders count.

    Raises:
        ViValidationError: it is none of these, or empty: an empty list, a folder without pictures.
    """
    if isinstance(source, str | os.PathLike):
        named = os.fspath(source)
        if not _is_folder(named):
            return Sources([_one(named)], False)
        found = _in_folder(Path(named).expanduser(), recursive)
        if isinstance(found, ViError):
            raise found
        return Sources(list(found), True)
    if not isinstance(source, Sequence) or isinstance(source, bytes) or not len(source):
        raise ViValidationError("'source' must be a path, an address or a list of them, and not empty.")
    listed: list[str | ViError] = []
    for each in source:
        if not isinstance(each, str | os.PathLike):
            listed.append(ViValidationError(f"A {type(each).__name__} is no path and no address."))
            continue
        named = os.fspath(each)
        if not _is_folder(named):
            listed.append(_one(named))
            continue
        found = _in_folder(Path(named).expanduser(), recursive)
        listed += [found] if isinstance(found, ViError) else found
    return Sources(listed, True)


def read(source: str, settings: Settings) -> bytes:
    """The encoded picture of one of :attr:`Sources.listed`. Raises InvalidPicture, PictureTooLarge."""
    given: str | bytes = source
    if source[:5].lower() == "data:":
        head, comma, data = source.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise InvalidPicture("A data URL of a picture is in base64, as data:image/jpeg;base64,... is.")
        try:
            given = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidPicture("The picture is not valid base64.") from error
    (picture,) = read_images(given, settings)
    return picture


def name(source: str | ViError) -> str:
    """A picture's name in a message."""
    told = "a picture" if isinstance(source, ViError) or source[:5].lower() == "data:" else os.path.basename(source)
    return told[:_LONGEST]


def _one(named: str) -> str | ViError:
    if named.lower().startswith(_ADDRESSES):
        return named
    path = Path(named).expanduser()
    try:
        there = path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        there = False
    if not there:
        return ViFileNotFoundError(f"There is no file '{named[:_LONGEST]}'.", "invalid_picture")
    return str(path.resolve())


def _is_folder(named: str) -> bool:
    if named.lower().startswith(_ADDRESSES):
        return False
    try:
        return bool(named) and Path(named).expanduser().is_dir()
    except (OSError, ValueError):
        return False


def _in_folder(folder: Path, recursive: bool) -> list[str] | ViError:
    try:
        inside = sorted(folder.rglob("*") if recursive else folder.iterdir())
        found = [str(path.resolve()) for path in inside if path.suffix in _SUFFIXES and path.is_file()]
    except OSError:
        return ViValidationError(f"The folder '{folder.name[:_LONGEST]}' cannot be read.")
    deeper = "" if recursive else "recursive=True looks into the folders within it."
    return found or ViValidationError(f"The folder '{folder.name[:_LONGEST]}' holds no picture.", suggestion=deeper)
