"""What every engine of a vision-language model does: answers begin at once and come in pieces from other threads."""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tritonvision.python_backend.generation.prompt import Picture
from tritonvision.results import Delta

Messages = Sequence[Mapping[str, Any]]


class Engine(ABC):
    """Answers questions about pictures. Every answer ends exactly once: by a piece with a ``finish_reason``, or an
    error.
    """

    @abstractmethod
    def start(
        self, messages: Messages, pictures: Sequence[Picture], settings: Mapping[str, Any],
        emit: Callable[[Delta], None], failed: Callable[[Exception], None], cancelled: Callable[[], bool],
    ) -> None:  # fmt: skip
        """Begin an answer and return at once; ``emit`` and ``failed`` are called from other threads.

        Args:
            messages: see :meth:`tritonvision.python_backend.generation.prompt.Reader.read`.
            settings: of the task, resolved.
            emit: called with every piece, of which the last one has a ``finish_reason``.
            failed: called with the error, and no piece follows; Cancelled when the caller cancelled.
            cancelled: whether the caller cancelled; asked between any two units of work.

        Raises:
            RuntimeError: after :meth:`close`.
        """

    @abstractmethod
    def close(self) -> None:
        """End the threads; answers that are not finished fail with ServerUnavailable."""

    def talk(
        self, messages: Messages, pictures: Sequence[np.ndarray], settings: Mapping[str, Any]
    ) -> Iterator[Delta]:
        """The pieces of one answer about pictures, RGB uint8 ``[h,w,3]``. Closing the iterator cancels the answer."""
        pieces: queue.SimpleQueue[Delta | Exception] = queue.SimpleQueue()
        left = False
        self.start(messages, [*map(Picture.of, pictures)], settings, pieces.put, pieces.put, lambda: left)
        try:
            while True:
                piece = pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish_reason:
                    return
        finally:
            left = True
