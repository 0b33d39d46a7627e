"""The pictures of a request, as encoded bytes for Triton, from the forms in which the dialects send them.

Formats and sizes are read from the header; nothing is decoded here. Arrays become ``.npy`` bytes in RGB.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pybase64

from tritonvision.errors import InvalidPicture
from tritonvision.facade.admission import ByteReservation
from tritonvision.facade.inputs import arrays
from tritonvision.facade.inputs.fetch import Fetcher
from tritonvision.facade.workers import LARGE, in_thread
from tritonvision.pictures import NPY_MAGIC, read_header
from tritonvision.settings import Settings

# The prefix of a data URL; its media type is ignored, and may be missing.
DATA_URL = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)
LONGEST_PREFIX = 256
_STANDARD = bytes.maketrans(b"-_", b"+/")  # from the URL-safe alphabet
_FOREIGN = re.sub(rb"[A-Za-z0-9+/_=-]", b"", bytes(range(256)))


def from_base64(text: str | bytes) -> bytes:
    """The bytes behind base64 ``text``, of either alphabet.

    A data URL's prefix in front of it, foreign characters and missing padding are fine.

    Raises:
        InvalidPicture: nothing, or nothing that can be base64.
    """
    beginning = text[:LONGEST_PREFIX]
    prefix = DATA_URL.match(beginning if isinstance(beginning, str) else beginning.decode("latin-1"))
    data = _decode(text[prefix.end() :] if prefix else text)
    if not data:
        raise InvalidPicture("The picture is empty.")
    return data


async def decoded(text: str | bytes) -> bytes:
    """As :func:`from_base64`; a long text in a thread."""
    return from_base64(text) if len(text) < LARGE else await in_thread(from_base64, text)


def _decode(text: str | bytes) -> bytes:
    with contextlib.suppress(ValueError):
        return pybase64.b64decode(text, validate=True)  # as clients write it, and without a copy of the text
    # Never binascii's lenient mode: it is fifty times slower and holds the GIL.
    text = text.encode("ascii", "ignore") if isinstance(text, str) else text
    text = text.translate(_STANDARD, _FOREIGN).partition(b"=")[0]
    try:
        return pybase64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise InvalidPicture("The picture is not valid base64.") from error


class Pictures:
    """Reads the pictures of requests.

    Args:
        fetcher: fetches URLs.
    """

    def __init__(self, settings: Settings, fetcher: Fetcher):
        self._settings = settings
        self._fetcher = fetcher
        self._readers: dict[str, Callable[[Any, ByteReservation], Awaitable[bytes]]] = {
            "base64": self._base64, "url": self._url, "numpy": self._numpy,
        }  # fmt: skip

    async def read(self, kind: str, value: Any, reservation: ByteReservation) -> bytes:
        """The picture that ``value`` is, sent as ``kind``: ``base64``, ``url`` or ``numpy``.

        Raises:
            InvalidPicture: another kind, a kind that is turned off, or a value that is no picture.
            PictureTooLarge: over the pixel limit, or over the request's bytes.
        """
        reader = self._readers.get(kind.lower())
        if reader is None:
            raise InvalidPicture(f"Pictures of type '{kind[:40]}' are not read.", hint="Send base64, url or numpy.")
        return await reader(value, reservation)

    async def encoded(self, data: bytes) -> bytes:
        """``data``, checked to be an encoded picture within the limits. Raises InvalidPicture, PictureTooLarge.

        The header of a small file takes two milliseconds at the worst and is read here; of a large one in a thread.
        """
        if len(data) < LARGE:
            self.check(data)
        else:
            await in_thread(self.check, data)
        return data

    def check(self, data: bytes) -> None:
        """As :meth:`encoded`, always in the calling thread."""
        if data.startswith(NPY_MAGIC):
            raise InvalidPicture("The bytes are an array, not a picture.")
        read_header(data, self._settings.max_pixels)

    async def array(self, data: bytes) -> bytes:
        """RGB ``.npy`` bytes of an array sent as ``.npy`` or pickle, BGR or grey. Raises as :meth:`read`."""
        if not self._settings.numpy_input:
            raise InvalidPicture("NumPy input is turned off on this server.", hint="Send base64 of a picture file.")
        if len(data) < LARGE:
            return self._convert(data)
        return await in_thread(self._convert, data)

    def _convert(self, data: bytes) -> bytes:
        return arrays.to_npy(arrays.read_array(data, self._settings.max_pixels))

    async def _base64(self, value: Any, reservation: ByteReservation) -> bytes:
        return await self.encoded(await decoded(_text(value)))

    async def _url(self, value: Any, reservation: ByteReservation) -> bytes:
        if not self._settings.url_input:
            raise InvalidPicture("URL input is turned off on this server.", hint="Send base64 of a picture file.")
        return await self.encoded(await self._fetcher.fetch(_text(value), reservation.take))

    async def _numpy(self, value: Any, reservation: ByteReservation) -> bytes:
        return await self.array(await decoded(_text(value)))


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidPicture("The picture is empty." if value in ("", None) else "The picture's value must be text.")
    return value
