"""The header of a picture: format, size and orientation, read from the bytes in bounded time without decoding them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tritonvision.errors import InvalidPicture, PictureTooLarge
from tritonvision.pictures import containers, heif, tiff
from tritonvision.pictures.npy import NPY_MAGIC, read_npy_header
from tritonvision.pictures.parts import Parts, Stored

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIC", "TIFF", "GIF", "BMP")
# Suffixes of the files of these formats.
ENDINGS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".heic", ".heif", ".tif", ".tiff",
    ".gif", ".bmp",
})  # fmt: skip
MAX_PIXELS = 50_000_000
# Formats of which the orientation is a part, so that every reader applies it.
_ALWAYS_TURNED = ("TIFF", "AVIF", "HEIC")
# Orientations that swap width and height (Exif 2.32, tag 274).
_LYING = (5, 6, 7, 8)


@dataclass(frozen=True)
class Header:
    """The facts in a picture file's header.

    Attributes:
        format: one of :data:`FORMATS`, or ``NPY``.
        width, height: pixels as they are stored, before the orientation is applied.
        orientation: 1 to 8 as in EXIF, how the stored pixels are to be turned; 1 where the file has none.
    """

    format: str
    width: int
    height: int
    orientation: int = 1

    def turn(self, auto_orient: bool = True) -> int:
        """The orientation to apply: 1 where ``auto_orient`` is off and the format leaves the choice."""
        return self.orientation if auto_orient or self.format in _ALWAYS_TURNED else 1

    def shown(self, auto_orient: bool = True) -> tuple[int, int]:
        """(width, height) after the turn."""
        lying = self.turn(auto_orient) in _LYING
        return (self.height, self.width) if lying else (self.width, self.height)


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Format, size and orientation of an encoded picture, or of ``.npy`` bytes, without decoding it.

    The number of parts read (segments, chunks, tags, boxes) is bounded, see :class:`Parts`, and no memory is allocated
    for sizes that the file states. Of several frames the first is read. A damaged EXIF block is ignored.

    Raises:
        InvalidPicture: no picture of a known format, an empty one, a truncated file, or an unsupported pixel type.
        PictureTooLarge: more than ``max_pixels`` pixels.
    """
    if not data:
        raise InvalidPicture("The picture is empty.")
    header = _npy_header(data) if data.startswith(NPY_MAGIC) else _file_header(data)
    if header.width < 1 or header.height < 1:
        raise InvalidPicture("The picture has no pixels.")
    if header.width * header.height > max_pixels:
        raise PictureTooLarge(
            f"The picture has {header.width} x {header.height} pixels, over the limit of {max_pixels / 1e6:g} million."
        )
    return header


def shown_size(data: bytes, auto_orient: bool = True) -> tuple[int, int]:
    """(width, height) of an encoded picture or ``.npy`` bytes as :func:`~tritonvision.pictures.decode` gives it.

    Raises:
        InvalidPicture: the bytes are no picture.
    """
    return read_header(data).shown(auto_orient)


def _file_header(data: bytes) -> Header:
    kind, reader = _kind(data)
    try:
        stored = reader(data, Parts(len(data)))
    except struct.error as error:  # a read went beyond the end of the file
        raise InvalidPicture(f"The {kind} is cut short.") from error
    return Header(kind, stored.width, stored.height, stored.orientation)


def _kind(data: bytes) -> tuple[str, Callable[[bytes, Parts], Stored]]:
    """The format by the first bytes, and the function that reads its header."""
    if data.startswith(b"\xff\xd8"):
        return "JPEG", containers.jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", containers.png
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", containers.webp
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF", containers.gif
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF", tiff.picture
    if data.startswith(b"BM"):
        return "BMP", containers.bmp
    if kind := heif.kind(data):
        return kind, heif.picture
    raise InvalidPicture("The bytes are not a picture.", hint=f"Readable are {', '.join(FORMATS)}.")


def _npy_header(data: bytes) -> Header:
    shape = read_npy_header(data).shape
    if len(shape) != 3 or shape[2] != 3:
        raise InvalidPicture("The array must be uint8 of shape (height, width, 3).")
    return Header("NPY", shape[1], shape[0])
