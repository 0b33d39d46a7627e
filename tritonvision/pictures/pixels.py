"""Encoded bytes to RGB pixels, with one decoder for each format."""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING

from tritonvision.errors import InvalidPicture
from tritonvision.pictures.header import Header, read_header
from tritonvision.pictures.heif import without_metadata
from tritonvision.pictures.npy import read_npy
from tritonvision.pictures.tiff import further_tables_are_sound

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262  # of TIFF
# What Pillow raises for a damaged file, depending on where it detects the damage.
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, IndexError, OverflowError, RuntimeError,
    struct.error,
)  # fmt: skip


def size_of(picture: np.ndarray) -> tuple[int, int]:
    """(height, width) of pixels ``[h, w, ...]``."""
    height, width = picture.shape[:2]
    return height, width


def decode(data: bytes, auto_orient: bool = True) -> np.ndarray:
    """Decode an encoded picture, or ``.npy`` bytes (uint8 RGB), to RGB uint8 ``[h, w, 3]``.

    Alpha is dropped, grey is expanded, of 16 bits the upper 8 are kept, of several frames the first. The size is always
    that of :func:`~tritonvision.pictures.shown_size`.

    Args:
        auto_orient: whether the EXIF orientation of JPEG, PNG and WebP is applied; the orientation of TIFF, AVIF and
            HEIC is a part of their format and always applied.

    Raises:
        InvalidPicture, PictureTooLarge: as :func:`~tritonvision.pictures.read_header`, or the pixels are damaged.
    """
    header = read_header(data)
    if header.format == "NPY":
        return read_npy(data).copy()
    pixels = _pixels(data, header)
    if pixels is None:
        raise InvalidPicture(f"The {header.format} cannot be decoded.")
    if header.format not in ("TIFF", "HEIC"):  # whose decoders apply the orientation
        pixels = turned(pixels, header.turn(auto_orient))
    if pixels.shape[1::-1] != header.shown(auto_orient):
        raise InvalidPicture(f"The {header.format}'s pixels are not of the size that its header tells.")
    return pixels


def _pixels(data: bytes, header: Header) -> np.ndarray | None:
    """The pixels by the decoder of the format; None when it cannot read them."""
    if header.format == "JPEG":
        return _jpeg(data)
    if header.format == "TIFF":
        return _tiff(data, header)
    if header.format == "HEIC":
        return _heic(data, header)
    if header.format == "AVIF":
        return _by_pillow(without_metadata(data), "AVIF", (header.width, header.height))
    pixels = None if header.format == "GIF" else _by_opencv(data)  # the faster one
    return _by_pillow(data, header.format, (header.width, header.height)) if pixels is None else pixels


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """``pixels`` (uint8 ``[h, w, c]``) turned and flipped by an EXIF ``orientation`` of 1 to 8."""
    import cv2

    lying = orientation in (5, 6, 7, 8)
    if lying:
        pixels = cv2.transpose(pixels)
    mirror = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)  # flips: horizontal, both, vertical
    if mirror is None:
        return pixels
    return cv2.flip(pixels, mirror, dst=pixels if lying else None)  # a copy, which may be changed


def rgb_of(image: Image.Image) -> np.ndarray:
    """RGB uint8 ``[h, w, 3]`` of a Pillow image of any mode with 8 or 16 bits a channel, without its orientation.

    Raises:
        InvalidPicture: floats, or 32-bit integers.
    """
    import numpy as np

    if image.mode in ("F", "I"):
        raise InvalidPicture(
            "The picture holds floats or 32-bit numbers, and pictures have 8 or 16 bits a channel.",
            hint="Scale its values to 0 to 255 and save them as 8 bits.",
        )
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow applies it to 8 bits only
            grey = ~grey
        return np.repeat(grey[..., None], 3, axis=2)
    return np.array(image.convert("RGB"))


def _jpeg(data: bytes) -> np.ndarray | None:
    """By libjpeg-turbo directly, which gives the same pixels as OpenCV in as little as half of the time.

    Where it warns, OpenCV decodes instead: it reads CMYK and some damaged files, and refuses truncated ones.
    """
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return _by_opencv(data)


def _by_opencv(data: bytes) -> np.ndarray | None:
    """RGB pixels, without the orientation (applied for TIFF only); None when OpenCV cannot read them."""
    import cv2
    import numpy as np

    try:
        return cv2.imdecode(
            np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        )
    except cv2.error:
        return None


def _by_pillow(data: bytes, kind: str, size: tuple[int, int]) -> np.ndarray | None:
    """RGB pixels, without the orientation (applied for TIFF only); None when Pillow fails or finds another size."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            return rgb_of(image) if image.size == size else None  # decoding would allocate memory for its own size
    except (*_DAMAGE, Image.DecompressionBombError):
        return None


def _tiff(data: bytes, header: Header) -> np.ndarray | None:
    """By Pillow, which keeps the colours under an alpha channel; by OpenCV for the kinds that Pillow cannot read.

    Pillow reads the tables of EXIF and GPS with the picture, whatever sizes they state, so they are checked first.
    """
    pixels = _by_pillow(data, "TIFF", header.shown()) if further_tables_are_sound(data) else None
    return _by_opencv(data) if pixels is None else pixels


def _heic(data: bytes, header: Header) -> np.ndarray | None:
    import pi_heif

    pi_heif.options.THUMBNAILS = pi_heif.options.DEPTH_IMAGES = pi_heif.options.AUX_IMAGES = False
    try:
        image = pi_heif.open_heif(io.BytesIO(without_metadata(data)), convert_hdr_to_8bit=True)
        return rgb_of(image.to_pillow()) if image.size == header.shown() else None
    except _DAMAGE:
        return None
