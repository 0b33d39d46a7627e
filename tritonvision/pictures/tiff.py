"""Tags of TIFF files, and of EXIF blocks, which are written like them (TIFF 6.0, section 2; BigTIFF; Exif 2.32)."""

from __future__ import annotations

import struct
from struct import unpack_from

from tritonvision.errors import InvalidPicture
from tritonvision.pictures.parts import Parts, Stored

_WIDTH, _HEIGHT, _BITS, _STRIPS, _ORIENTATION, _TILES, _SAMPLE_FORMAT = 256, 257, 258, 273, 274, 324, 339
_TABLES = (34665, 34853, 40965)  # offsets of the tables of EXIF, of GPS and of interoperability
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # integer types, and their struct codes
_DEPTHS = (1, 2, 4, 8, 16)
_UNSIGNED, _UNTOLD = 1, 4  # sample formats
_MOST_STRIPS = 1 << 20
EXIF_START = b"Exif\0\0"


class Tags:
    """A table of tags (IFD). Each tag counts as a part, and all values together may not be larger than ``data``.

    Args:
        data: a TIFF file, or the TIFF part of an EXIF block.
        at: offset of the table; None for the first one.

    Raises:
        struct.error: the table extends beyond the end.
        InvalidPicture: no TIFF, or values that do not fit into the file.
    """

    def __init__(self, data: bytes, parts: Parts, at: int | None = None):
        self._data = data
        self._order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]), "")
        version = unpack_from(self._order + "H", data, 2)[0]
        if not self._order or version not in (42, 43):
            raise _damaged()
        wide = version == 43  # BigTIFF: offsets and counts of 64 bits
        self._offset = self._order + ("Q" if wide else "I")
        if at is None:
            (at,) = unpack_from(self._offset, data, 8 if wide else 4)
        (count,) = self._unpack("Q" if wide else "H", at)
        first, step = (at + 8, 20) if wide else (at + 2, 12)
        self._inside = 8 if wide else 4
        self._found: dict[int, tuple[int, int, int]] = {}
        total = 0
        for place in range(first, first + count * step, step):
            parts.count()
            tag, kind, length = self._unpack(f"HH{self._offset[1]}", place)
            total += _SIZES.get(kind, 1) * length
            self._found.setdefault(tag, (kind, length, place + step - self._inside))
        if total > len(data):
            raise _damaged()

    def numbers(self, tag: int, most: int) -> tuple[int, ...]:
        """Up to ``most`` values of ``tag``; empty where it is missing or not of an integer type."""
        kind, length, place = self._found.get(tag, (0, 0, 0))
        if kind not in _WHOLE:
            return ()
        if _SIZES[kind] * length > self._inside:  # they do not fit into the entry
            (place,) = self._unpack(self._offset[1], place)
        return self._unpack(f"{min(length, most)}{_WHOLE[kind]}", place)

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        """Raises InvalidPicture beyond the end: an offset of a BigTIFF may be larger than any that ``struct`` takes."""
        if at > len(self._data):
            raise _damaged()
        return unpack_from(self._order + form, self._data, at)

    def count(self, tag: int) -> int:
        """The number of values of ``tag``."""
        return self._found.get(tag, (0, 0))[1]

    @property
    def orientation(self) -> int:
        """1 to 8; 1 where there is none or an invalid one."""
        found = self.numbers(_ORIENTATION, 2)
        return found[0] if len(found) == 1 and 1 <= found[0] <= 8 else 1


def exif_orientation(block: bytes) -> int:
    """The orientation in an EXIF block, 1 to 8; 1 for an empty or a damaged one. It may begin with ``EXIF_START``."""
    try:
        return Tags(block.removeprefix(EXIF_START), Parts(0)).orientation
    except (struct.error, InvalidPicture):
        return 1


def picture(data: bytes, parts: Parts) -> Stored:
    """The first picture of a TIFF file.

    Raises:
        InvalidPicture: floats, signed or 32-bit numbers, for which black and white are not defined.
        struct.error: the file ends too early.
    """
    tags = Tags(data, parts)
    depths, kinds = tags.numbers(_BITS, 8) or (1,), tags.numbers(_SAMPLE_FORMAT, 8) or (_UNSIGNED,)
    if not (set(depths) <= set(_DEPTHS) and set(kinds) <= {_UNSIGNED, _UNTOLD}):
        raise InvalidPicture(
            "The TIFF holds floats, or numbers that are signed or of another width than 8 or 16 bits.",
            hint="Scale its values to 0 to 255 and save them as 8 bits.",
        )
    if max(tags.count(_STRIPS), tags.count(_TILES)) > _MOST_STRIPS:
        raise _damaged()
    width, height = (tags.numbers(tag, 1) for tag in (_WIDTH, _HEIGHT))
    if not (width and height):
        raise _damaged()
    return Stored(width[0], height[0], tags.orientation)


def further_tables_are_sound(data: bytes) -> bool:
    """Whether the tables of a TIFF file that its first one points to can be read in bounded time and memory."""
    parts = Parts(len(data))
    try:
        waiting = [Tags(data, parts)]
        while waiting:
            tags = waiting.pop()
            waiting += [Tags(data, parts, at) for tag in _TABLES for at in tags.numbers(tag, 1)]
    except (struct.error, InvalidPicture):
        return False
    return True


def _damaged() -> InvalidPicture:
    return InvalidPicture("The TIFF is damaged.")
