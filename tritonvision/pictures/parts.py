"""Shared by the readers of headers: the bound on the number of parts that they read, and their result."""

from __future__ import annotations

from dataclasses import dataclass

from tritonvision.errors import InvalidPicture

_AT_LEAST = 2048
_BYTES_A_PART = 1024


@dataclass(frozen=True)
class Stored:
    """Size in pixels as stored, and the orientation in which they are to be shown, 1 to 8 as in EXIF."""

    width: int
    height: int
    orientation: int = 1


class Parts:
    """Counts the segments, chunks, tags or boxes that a reader reads.

    A file may have 2048 of them, and one more for each KiB. Writers use parts of 8 KiB and more, so real files stay far
    below, and a file of empty parts only costs about one millisecond per MiB.

    Args:
        size: of the file, bytes.
    """

    def __init__(self, size: int):
        self._left = _AT_LEAST + size // _BYTES_A_PART

    def count(self) -> None:
        """Count one more part. Raises InvalidPicture when there are too many."""
        self._left -= 1
        if self._left < 0:
            raise InvalidPicture("The picture's file has too many parts before its pixels.")
