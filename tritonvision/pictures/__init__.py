"""Reading encoded pictures: format, size and orientation from the header, and the decoded pixels.

All code that reads pictures uses this package, so models, drawings and the sizes in answers always agree.
"""

from tritonvision.pictures.header import ENDINGS, FORMATS, MAX_PIXELS, Header, read_header, shown_size
from tritonvision.pictures.npy import FLOATS, NPY_MAGIC, read_npy, read_npy_header
from tritonvision.pictures.pixels import decode, rgb_of, size_of, turned
from tritonvision.pictures.tiff import exif_orientation

__all__ = [
    "ENDINGS", "FLOATS", "FORMATS", "MAX_PIXELS", "NPY_MAGIC", "Header", "decode", "exif_orientation", "read_header",
    "read_npy", "read_npy_header", "rgb_of", "shown_size", "size_of", "turned",
]  # fmt: skip
