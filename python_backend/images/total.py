"""A limit on the pixels of all pictures of one request together, which bounds its decoding time."""

from __future__ import annotations

from collections.abc import Iterable

from tritonvision.errors import PictureTooLarge

MOST_PIXELS = 100_000_000  # a second of decoding


def check(sizes: Iterable[tuple[int, int]]) -> None:
    """Refuse pictures over the limit, by their (height, width), before any is decoded.

    Raises:
        PictureTooLarge: more than ``MOST_PIXELS``.
    """
    pixels = sum(height * width for height, width in sizes)
    if pixels > MOST_PIXELS:
        raise PictureTooLarge(
            f"The pictures of the request have {pixels / 1e6:.1f} million pixels together, over the limit of "
            f"{MOST_PIXELS / 1e6:g} million.",
            hint="Send fewer or smaller pictures.",
        )
