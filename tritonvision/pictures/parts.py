"""What the readers of headers share: a bound on how much they look at, and what they find."""

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
    """Counts the segments, chunks, tags or boxes that a reader looks at.

    A file may have 2048 of them, and one more for each KiB. Writers use parts of 8 KiB and more, so no real file comes
    near, and a file made of nothing but empty parts costs about a millisecond a MiB.

    Args:
        size: of the file, bytes.
    """

    def __init__(self, size: int):
        self._left = _AT_LEAST + size // _BYTES_A_PART

    def count(self) -> None:
        """One more part is looked at. Raises InvalidPicture when there were too many."""
        self._left -= 1
        if self._left < 0:
            raise InvalidPicture("The picture's file has too many parts before its pixels.")
