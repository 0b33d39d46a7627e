"""``.npy`` bytes (NumPy Enhancement Proposal 1) that others sent: the header is matched, and nothing is evaluated.

NumPy's own reader parses the header as Python, which costs what the sender likes and ends in errors of many kinds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tritonvision.errors import InvalidPicture

if TYPE_CHECKING:
    import numpy as np

NPY_MAGIC = b"\x93NUMPY"
_NAMES = {"u1": "uint8", "f2": "float16", "f4": "float32", "f8": "float64"}
UINT8 = ("u1",)
FLOATS = ("f2", "f4", "f8")

_DESCR = re.compile(r"'descr':\s*'([|<>=]?[a-z]\d{1,2})'\s*,")
_ORDER = re.compile(r"'fortran_order':\s*(True|False)\s*,")
_SHAPE = re.compile(r"'shape':\s*\(\s*((?:\d{1,9}(?:\s*,\s*\d{1,9}){0,5}\s*,?)?)\s*\)\s*[,}]")
_KEYS = ("'descr'", "'fortran_order'", "'shape'")
_LONGEST = 1024  # bytes of a header; NumPy writes 118 for the arrays that are read here
_VERSIONS = (1, 2, 3)


@dataclass(frozen=True)
class NpyHeader:
    """What the header of ``.npy`` bytes tells.

    Attributes:
        type: NumPy's letters with the order of bytes: ``|u1``, ``<f4``.
        fortran: whether the first axis varies fastest.
        start: where the numbers begin.
    """

    type: str
    shape: tuple[int, ...]
    fortran: bool
    start: int

    @property
    def bytes(self) -> int:
        """How many the numbers take."""
        return math.prod(self.shape) * int(self.type[-1])


def read_npy_header(data: bytes, types: Collection[str] = UINT8) -> NpyHeader:
    """The header of ``.npy`` bytes of any version, without memory for what it tells.

    Args:
        types: letters that are read, without the order of bytes.

    Raises:
        InvalidPicture: no such bytes, an array of another type, or other bytes than its shape tells.
    """
    if not data.startswith(NPY_MAGIC) or len(data) < 12 or data[6] not in _VERSIONS:
        raise InvalidPicture("The bytes are not a NumPy array.")
    start = 10 if data[6] == 1 else 12
    length = int.from_bytes(data[8:start], "little")
    if length > _LONGEST or len(data) < start + length:
        raise InvalidPicture("The bytes are not a NumPy array.")
    header = data[start : start + length].decode("latin-1")
    order, shape, kind = _ORDER.search(header), _SHAPE.search(header), _DESCR.search(header)
    if order is None or shape is None or any(header.count(key) != 1 for key in _KEYS):
        raise InvalidPicture("The bytes are not a NumPy array.")
    if kind is None or kind[1].lstrip("|<>=") not in types:
        raise InvalidPicture(f"The array must be of type {' or '.join(_NAMES[letters] for letters in types)}.")
    sizes = tuple(map(int, re.findall(r"\d+", shape[1])))
    found = NpyHeader(kind[1], sizes, order[1] == "True", start + length)
    if found.bytes != len(data) - found.start:
        raise InvalidPicture("The array's bytes do not match its shape.")
    return found


def read_npy(data: bytes, types: Collection[str] = UINT8) -> np.ndarray:
    """The array in ``.npy`` bytes, a view of them. Raises as :func:`read_npy_header`."""
    import numpy as np

    found = read_npy_header(data, types)
    flat = np.frombuffer(data, dtype=found.type, offset=found.start)
    return flat.reshape(found.shape, order="F" if found.fortran else "C")
