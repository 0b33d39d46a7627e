"""Encoded pictures: what the bytes say (format, size, orientation), and the pixels they stand for.

Everything that reads a picture reads it here, so that a model, a drawing and a size in an answer never disagree.
"""

from tritonvision.pictures.header import ENDINGS, FORMATS, MAX_PIXELS, NPY_MAGIC, Header, read_header, shown_size
from tritonvision.pictures.pixels import decode, rgb_of, size_of, turned
from tritonvision.pictures.tiff import exif_orientation

__all__ = [
    "ENDINGS", "FORMATS", "MAX_PIXELS", "NPY_MAGIC", "Header", "decode", "exif_orientation", "read_header", "rgb_of",
    "shown_size", "size_of", "turned",
]  # fmt: skip
