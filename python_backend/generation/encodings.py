"""What the vision network makes of pictures, computed once for all processes of the server."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import numpy as np

from tritonvision.errors import InvalidPicture
from tritonvision.python_backend.generation.prompt import Picture, Size
from tritonvision.python_backend.runtime.encoding_cache import SharedCache
from tritonvision.python_backend.runtime.sessions import Sessions

_TILES = 4  # tiles in one run of the vision network; cancelling takes effect between two runs
_COUNTS = 10_000  # pictures of which the number of rows is remembered

Rows = Mapping[str, np.ndarray]


class Reader(Protocol):
    """Reads pictures: every family's reader, see :class:`.prompt.Reader`."""

    def vision_inputs(self, picture: np.ndarray, detail: str) -> Mapping[str, np.ndarray]:
        """Inputs of the vision network for one picture, RGB uint8 ``[h,w,3]``, batch axis first."""


class Encodings:
    """Encodes pictures for prompts.

    Args:
        sessions: with the network ``vision``.
        reader: of the family.
        model: changes with everything that decides what the network answers.
        cache: of what it answered.
        working: a context manager around each unit of work.
    """

    def __init__(
        self, sessions: Sessions, reader: Reader, model: str, cache: SharedCache,
        working: Callable[[], AbstractContextManager] = nullcontext,
    ):  # fmt: skip
        self._sessions, self._reader, self._model, self._cache, self._working = sessions, reader, model, cache, working
        self._counts: OrderedDict[str, int] = OrderedDict()

    def key(self, picture: Picture, detail: str, outputs: Sequence[str]) -> str:
        """What decides the rows of a picture, as a text; empty where its content is not known."""
        if picture.digest is None:
            return ""
        given = f"{self._model}\n{detail}\n{' '.join(outputs)}\n".encode() + picture.digest()
        return hashlib.sha256(given).hexdigest()

    def count(self, key: str) -> int | None:
        """How many rows the picture of that key has, None where that is not known."""
        return self._counts.get(key)

    def rows(
        self, key: str, picture: Picture, size: Size, detail: str, outputs: Sequence[str], go_on: Callable[[], None]
    ) -> Rows:  # fmt: skip
        """float32 ``(n, H)`` of each of the vision network's ``outputs`` for one picture.

        Args:
            key: of :meth:`key`.
            size: (height, width) that its header told.
            go_on: called between two runs of the network; what it raises ends the work.

        Raises:
            InvalidPicture: it cannot be decoded, or has another size than its header told.
        """

        def make() -> tuple[np.ndarray, ...]:
            return self._encode(picture, size, detail, outputs, go_on)

        go_on()
        found = dict(zip(outputs, self._cache.fetch(key, make) if key else make(), strict=True))
        if key:
            self._counts[key] = len(found[outputs[0]])
            self._counts.move_to_end(key)
            if len(self._counts) > _COUNTS:
                self._counts.popitem(last=False)
        return found

    def _encode(
        self, picture: Picture, size: Size, detail: str, outputs: Sequence[str], go_on: Callable[[], None]
    ) -> tuple[np.ndarray, ...]:  # fmt: skip
        """A few tiles at a time. The picture's pixels are freed before the network runs."""
        with self._working():
            pixels = picture.decode()
            if pixels.shape[:2] != size:
                raise InvalidPicture("The picture's header tells another size than its pixels have.")
            inputs = self._reader.vision_inputs(pixels, detail)
            del pixels
        tiles, parts = len(next(iter(inputs.values()))), []
        for begin in range(0, tiles, _TILES):
            go_on()
            some = {name: value[begin : begin + _TILES] for name, value in inputs.items()}
            with self._working():
                parts.append(self._sessions("vision", some, outputs))
        whole = [np.concatenate([part[name] for part in parts]) for name in outputs]
        return tuple(rows.reshape(-1, rows.shape[-1]) for rows in whole)
