"""Headers of JPEG, PNG, WebP, GIF and BMP files.

Each reader raises InvalidPicture where the file breaks the format, and struct.error where it ends too early.
"""

from __future__ import annotations

from struct import unpack_from

import numpy as np

from tritonvision.errors import InvalidPicture
from tritonvision.pictures.parts import Parts, Stored
from tritonvision.pictures.tiff import EXIF_START, exif_orientation

_SOI, _EOI, _SOS, _APP1, _TEM = 0xD8, 0xD9, 0xDA, 0xE1, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15 without tables and the reserved one
# Each scan costs a decoder a pass over all pixels, and may have a few bytes only. Encoders write 10, optimisers 20, and
# of the pictures that some cameras append to a file each has some more.
_MOST_SCANS = 64
_STRIDE = 2**20
_ALONE = frozenset({0x00, _TEM, _SOI, *range(0xD0, 0xD8)})  # markers without a length, and the stuffed zero


def jpeg(data: bytes, parts: Parts) -> Stored:
    """The first frame and the first EXIF segment before the first scan (ITU T.81, B.1.1).

    Bytes between two segments are skipped, as libjpeg does. The end marker must follow the scan: an earlier one
    belongs to a thumbnail.
    """
    at, size, exif = 2, None, None
    while True:
        parts.count()
        at = data.find(b"\xff", at)
        if at < 0 or at + 1 >= len(data):
            raise InvalidPicture("The JPEG is cut short.")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in _ALONE:
            at += 2
            continue
        if marker in (_SOS, _EOI):
            break
        (length,) = unpack_from(">H", data, at + 2)
        if length < 2:
            raise InvalidPicture("The JPEG is damaged.")
        if marker in _FRAMES and size is None:
            size = unpack_from(">xHH", data, at + 4)
        elif marker == _APP1 and exif is None and data.startswith(EXIF_START, at + 4):
            exif = data[at + 4 : at + 2 + length]
        at += 2 + length
    if size is None or marker == _EOI:
        raise InvalidPicture("The JPEG has no picture in it.")
    if data.rfind(b"\xff\xd9", at) < 0:
        raise InvalidPicture("The JPEG is cut short.")
    if _scans(data, at) > _MOST_SCANS:
        raise InvalidPicture("The JPEG has too many scans.")
    return Stored(size[1], size[0], exif_orientation(exif or b""))


def _scans(data: bytes, start: int) -> int:
    """How often a scan's marker follows. numpy takes a tenth of the time of ``bytes.count`` for two bytes."""
    rest = np.frombuffer(data, np.uint8, offset=start)
    parts = (rest[at : at + _STRIDE + 1] for at in range(0, len(rest), _STRIDE))  # what is compared takes memory
    return sum(int(np.count_nonzero((part[:-1] == 0xFF) & (part[1:] == _SOS))) for part in parts)


def png(data: bytes, parts: Parts) -> Stored:
    """IHDR, and eXIf at any position (PNG, third edition, 5.6 and 11.3.4.2); bytes after IEND are ignored."""
    length, name, width, height = unpack_from(">I4sII", data, 8)
    if name != b"IHDR" or length != 13:
        raise InvalidPicture("The PNG is damaged.")
    at, exif = 33, b""
    while name != b"IEND":
        parts.count()
        length, name = unpack_from(">I4s", data, at)
        if at + 8 + length > len(data):  # a decoder would allocate memory for the size that it states
            raise InvalidPicture("The PNG is cut short.")
        if name == b"eXIf" and not exif:
            exif = data[at + 8 : at + 8 + length]
        at += 12 + length
    return Stored(width, height, exif_orientation(exif))


def webp(data: bytes, parts: Parts) -> Stored:
    """The frame of a simple file, or canvas and EXIF chunk of an extended one (RFC 9649, 2.5 to 2.7)."""
    name = data[12:16]
    if name == b"VP8 ":
        start, width, height = unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise InvalidPicture("The WEBP is damaged.")
        return Stored(width & 0x3FFF, height & 0x3FFF)
    if name == b"VP8L":
        signature, bits = unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise InvalidPicture("The WEBP is damaged.")
        return Stored((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if name != b"VP8X":
        raise InvalidPicture("The WEBP is damaged.")
    flags, *sides = unpack_from("<B3xHBHB", data, 20)
    exif = _webp_exif(data, parts) if flags & 0x08 else b""
    width, height = (low + (high << 16) + 1 for low, high in (sides[:2], sides[2:]))
    return Stored(width, height, exif_orientation(exif))


def _webp_exif(data: bytes, parts: Parts) -> bytes:
    at, end = 12, min(len(data), int.from_bytes(data[4:8], "little") + 8)
    while at + 8 <= end:
        parts.count()
        name, length = unpack_from("<4sI", data, at)
        if name == b"EXIF":
            return data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
    return b""


def gif(data: bytes, parts: Parts) -> Stored:
    """The logical screen, enlarged where the first frame extends beyond it (GIF89a, 18 and 20)."""
    width, height, flags = unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while (block := unpack_from("<B", data, at)[0]) == 0x21:
        at += 2
        while length := unpack_from("<B", data, at)[0]:
            parts.count()
            at += 1 + length
        at += 1
        parts.count()
    if block != 0x2C:
        raise InvalidPicture("The GIF has no picture in it.")
    left, top, wide, high = unpack_from("<HHHH", data, at + 1)
    return Stored(max(width, left + wide), max(height, top + high))


def bmp(data: bytes, parts: Parts) -> Stored:
    """Width and height in the information header; a negative height means rows from top to bottom."""
    (length,) = unpack_from("<I", data, 14)
    width, height = unpack_from("<HH" if length == 12 else "<ii", data, 18)
    return Stored(abs(width), abs(height))
