"""Encoded pictures: what their header tells without decoding, and the decoding that needs nothing but Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from tritonvision.errors import InvalidPicture, PictureTooLarge

if TYPE_CHECKING:
    import numpy as np

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
NPY_MAGIC = b"\x93NUMPY"
MAX_PIXELS = 50_000_000
# Orientations that swap width and height (Exif 2.32, tag 274).
_LYING = (5, 6, 7, 8)

# Our own limit below replaces Pillow's, which warns and raises at numbers of its own.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class Header:
    """Format and size as the file declares them, before any EXIF turn."""

    format: str
    width: int
    height: int


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """Format and size of an encoded picture, or of ``.npy`` bytes, without decoding or allocating it.

    Raises:
        InvalidPicture: no picture of a known format, an empty one, or a file cut short.
        PictureTooLarge: more than ``max_pixels`` pixels, or several frames.
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
    """(width, height) of an encoded picture or ``.npy`` bytes, after the EXIF turn unless ``auto_orient`` is False.

    Raises:
        InvalidPicture: the bytes are no picture.
    """
    header = read_header(data)
    if auto_orient and header.format not in ("NPY", "TIFF"):  # a TIFF's header is read as if it were turned already
        with Image.open(io.BytesIO(data)) as image:
            if image.getexif().get(ExifTags.Base.Orientation) in _LYING:
                return header.height, header.width
    return header.width, header.height


def decode(data: bytes, auto_orient: bool = True) -> np.ndarray:
    """RGB uint8 ``[h, w, 3]`` of an encoded picture by Pillow, or of ``.npy`` bytes as they are.

    ``auto_orient`` applies the EXIF orientation. Judge the header first. Raises InvalidPicture.
    """
    import numpy as np

    if data.startswith(NPY_MAGIC):
        return np.load(io.BytesIO(data), allow_pickle=False)
    try:
        with Image.open(io.BytesIO(data)) as image:
            oriented = ImageOps.exif_transpose(image) if auto_orient else image
            return np.array(oriented.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InvalidPicture("The picture cannot be decoded.") from error


def _file_header(data: bytes) -> Header:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            header = Header(image.format or "", *image.size)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, struct.error, OverflowError) as error:
        raise InvalidPicture("The bytes are not a picture.", hint=f"Readable are {', '.join(FORMATS)}.") from error
    if header.format == "JPEG" and not _jpeg_ends(data):
        raise InvalidPicture("The JPEG is cut short.")
    if header.format == "PNG" and b"IEND" not in data[-64:]:
        raise InvalidPicture("The PNG is cut short.")
    return header


def _jpeg_ends(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan (ITU T.81, B.1.1): a thumbnail has one of its own."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0xDA:
            return data.rfind(b"\xff\xd9", position) >= 0
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _npy_header(data: bytes) -> Header:
    from numpy.lib import format as npy

    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = reader(stream, max_header_size=1000)
    except (ValueError, KeyError, EOFError) as error:
        raise InvalidPicture("The bytes are not a NumPy array.") from error
    if dtype != "uint8" or len(shape) != 3 or shape[2] != 3:
        raise InvalidPicture("The array must be uint8 of shape (height, width, 3).")
    if len(data) - stream.tell() != shape[0] * shape[1] * 3:
        raise InvalidPicture("The array's bytes do not match its shape.")
    return Header("NPY", shape[1], shape[0])
