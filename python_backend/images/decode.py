"""Encoded bytes to RGB pixels, inside the pre step: a crash here costs one stub, which is replaced."""

from __future__ import annotations

import cv2
import numpy as np

from tritonvision import pictures


def decode(data: bytes, auto_orient: bool = True) -> np.ndarray:
    """RGB uint8 ``[h, w, 3]`` of an encoded picture, or of ``.npy`` bytes (uint8 RGB).

    Alpha is dropped, grey is expanded, 16 bits become 8; ``auto_orient`` applies the EXIF orientation.
    Raises InvalidPicture, PictureTooLarge.
    """
    header = pictures.read_header(data)
    if header.format in ("NPY", "GIF"):
        return pictures.decode(data, auto_orient)
    flags = cv2.IMREAD_COLOR if auto_orient else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        picture = None
    if picture is None:  # an encoding that OpenCV does not know
        return pictures.decode(data, auto_orient)
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
