"""Protobuf's encoding of ONNX, for what would be several copies of the weights as messages of its library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from google.protobuf.message import Message

_LENGTHS = {1: 8, 5: 4}  # bytes of the fields of a fixed length, by their type
_VARINT, _DELIMITED = 0, 2


def number_of(message: type[Message], field: str) -> int:
    """The number of a field in the encoding."""
    return message.DESCRIPTOR.fields_by_name[field].number


def key(number: int) -> bytes:
    """What stands before the length of a field of bytes, or of a message."""
    return varint(number << 3 | _DELIMITED)


def varint(number: int, size: int = 0) -> bytes:
    """``number`` seven bits a byte, the lowest first; in at least ``size`` bytes."""
    found = bytearray()
    while number >= 0x80 or len(found) < size - 1:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int, int, int]]:
    """The fields of the message from here to the offset ``end`` of ``file``.

    Yields:
        Its number, and offsets: of its first byte, of its value, and of what comes after it.

    Raises:
        DecodeError: these bytes are no message.
    """
    start = file.tell()
    while start < end:
        number, kind = divmod(_read_varint(file), 8)
        length = _LENGTHS.get(kind, 0)
        if kind == _DELIMITED:
            length = _read_varint(file)
        elif kind not in _LENGTHS and kind != _VARINT:
            raise DecodeError(f"There is no field of the type {kind}.")
        begin = file.tell()
        if kind == _VARINT:
            _read_varint(file)
        stop = file.tell() + length
        if stop > end:
            raise DecodeError("A field ends behind its message.")
        yield number, start, begin, stop
        start = file.seek(stop)


def _read_varint(file: BinaryIO) -> int:
    number = 0
    for place in range(10):  # 64 bits
        byte = file.read(1)
        if not byte:
            break
        number |= (byte[0] & 0x7F) << 7 * place
        if byte[0] < 0x80:
            return number
    raise DecodeError("A number does not end.")
