"""Headers of HEIC and AVIF, which consist of boxes (ISO/IEC 14496-12 and 23008-12; orientation: 6.5.10 and 6.5.12)."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import cache
from struct import unpack_from

from tritonvision.errors import InvalidPicture
from tritonvision.pictures.parts import Parts, Stored

_AVIF = {b"avif", b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_MOST_BRANDS = 64
# EXIF orientation by quarter turns to the left and the flip after them: none, vertical, horizontal.
_ORIENTATIONS = ((1, 4, 2), (8, 5, 7), (3, 2, 4), (6, 7, 5))


def kind(data: bytes) -> str | None:
    """``AVIF`` or ``HEIC`` by the brands of the first box, None for other files.

    Raises:
        InvalidPicture: the decoder of this format is not installed.
    """
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 16 + 4 * _MOST_BRANDS, len(data))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, end, 4))}
    found = "AVIF" if brands & _AVIF else "HEIC" if brands & _HEIC else None
    if found and not _decodable(found):
        raise InvalidPicture(
            f"This installation does not read {found}.",
            hint="Install tritonvision[heic], or send JPEG." if found == "HEIC" else "Send JPEG, PNG or WebP.",
        )
    return found


@cache
def _decodable(kind: str) -> bool:
    if kind == "HEIC":
        return importlib.util.find_spec("pi_heif") is not None
    from PIL import features

    return bool(features.check("avif"))


def picture(data: bytes, parts: Parts) -> Stored:
    """Size and orientation of the primary item.

    Raises:
        InvalidPicture: no still picture, or none with a size.
        struct.error: the file ends too early.
    """
    meta = _only(data, 0, len(data), b"meta", parts)
    start, end = meta[0] + 4, meta[1]
    width = height = turn = mirror = 0
    for name, at, _ in _properties(data, start, end, parts):
        if name == b"ispe":
            width, height = unpack_from(">4xII", data, at)
        elif name == b"clap":  # the visible part, as fractions
            wide, wide_by, high, high_by = unpack_from(">IIII", data, at)
            width, height = wide // max(wide_by, 1), high // max(high_by, 1)
        elif name == b"irot":
            turn = unpack_from(">B", data, at)[0] & 3
        elif name == b"imir":
            mirror = 1 + (unpack_from(">B", data, at)[0] & 1)
    return Stored(width, height, _ORIENTATIONS[turn][mirror])


def without_metadata(data: bytes) -> bytes:
    """The file with its EXIF and XMP blocks detached from all pictures; they do not affect the orientation.

    If they are damaged, Pillow fails on an AVIF or allocates whatever size they state, and pi-heif crashes on a HEIC.
    """
    start, end = _only(data, 0, len(data), b"meta", Parts(len(data)))
    return data[:start] + data[start:end].replace(b"cdsc", b"none") + data[end:]


def _properties(data: bytes, start: int, end: int, parts: Parts) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of each property of the primary item, in order."""
    at, _ = _only(data, start, end, b"pitm", parts)
    primary = unpack_from(">4xH" if data[at] == 0 else ">4xI", data, at)[0]
    start, end = _only(data, start, end, b"iprp", parts)
    listed = list(_boxes(data, *_only(data, start, end, b"ipco", parts), parts))
    for number in _associations(data, *_only(data, start, end, b"ipma", parts), primary, parts):
        if 0 < number <= len(listed):
            yield listed[number - 1]


def _associations(data: bytes, at: int, end: int, item: int, parts: Parts) -> Iterator[int]:
    """Numbers of the properties of ``item``, counted from 1."""
    version, flags, count = unpack_from(">B2xBI", data, at)
    head, wide = (">HB", ">IB")[version > 0], flags & 1
    at += 8
    for _ in range(count):
        parts.count()
        found, length = unpack_from(head, data, at)
        at += 3 if version == 0 else 5
        if found == item:
            numbers = unpack_from(f">{length}{'H' if wide else 'B'}", data, at)
            yield from (number & (0x7FFF if wide else 0x7F) for number in numbers)  # the first bit: essential
            return
        at += length * (2 if wide else 1)


def _only(data: bytes, start: int, end: int, name: bytes, parts: Parts) -> tuple[int, int]:
    """Start and end of the contents of the first box ``name`` in a range. Raises InvalidPicture: there is none."""
    for found, first, last in _boxes(data, start, end, parts):
        if found == name:
            return first, last
    raise InvalidPicture("The file has no still picture in it, or is cut short.")


def _boxes(data: bytes, start: int, end: int, parts: Parts) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of the contents of each box in a range."""
    while start + 8 <= end:
        parts.count()
        size, name = unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            (size,) = unpack_from(">Q", data, start + 8)
            head = 16
        last = end if size == 0 else start + size
        if last < start + head or last > end:
            raise InvalidPicture("The file's boxes do not fit into each other, or it is cut short.")
        yield name, start + head, last
        start = last
