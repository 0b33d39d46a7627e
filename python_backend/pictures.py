"""Encoded bytes to RGB pixels, inside the pre step: a crash here costs one stub, which is replaced."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageOps

from tritonvision.errors import InvalidPicture
from tritonvision.pictures import NPY_MAGIC, read_header


def decode(data: bytes, auto_orient: bool = True) -> np.ndarray:
    """RGB uint8 ``[h, w, 3]`` of an encoded picture, or of ``.npy`` bytes (uint8 RGB).

    Alpha is dropped, grey is expanded, 16 bits become 8; ``auto_orient`` applies the EXIF orientation.
    Raises InvalidPicture, PictureTooLarge.
    """
    header = read_header(data)
    if data.startswith(NPY_MAGIC):
        return np.load(io.BytesIO(data), allow_pickle=False)
    if header.format == "GIF":
        return _decode_with_pillow(data, auto_orient)
    flags = cv2.IMREAD_COLOR if auto_orient else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:  # an encoding that OpenCV does not know
        return _decode_with_pillow(data, auto_orient)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _decode_with_pillow(data: bytes, auto_orient: bool) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            oriented = ImageOps.exif_transpose(image) if auto_orient else image
            return np.array(oriented.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InvalidPicture("The picture cannot be decoded.") from error
