"""Admission: limits on concurrent pictures, and on the request bytes held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tritonvision.errors import Overloaded, PictureTooLarge

_RETRY_AFTER = 1.0


class Admission:
    """The two budgets of one process. A request over a limit is refused at once: a queue would hide the load.

    Attributes:
        pictures: in progress now.
        bytes: of request bodies and fetched pictures held now.
    """

    def __init__(self, max_pictures: int, max_bytes: int, max_request_bytes: int):
        self.max_pictures, self.max_bytes, self.max_request_bytes = max_pictures, max_bytes, max_request_bytes
        self.pictures = 0
        self.bytes = 0

    @contextmanager
    def admit(self, pictures: int) -> Iterator[None]:
        """Admit ``pictures`` for the time of the block. A request over the limit alone passes when nothing else runs.

        Raises:
            Overloaded: the limit is reached.
        """
        if self.pictures and self.pictures + pictures > self.max_pictures:
            raise Overloaded("The server is answering as many pictures as it can.", retry_after=_RETRY_AFTER)
        self.pictures += pictures
        try:
            yield
        finally:
            self.pictures -= pictures


class ByteReservation:
    """The bytes one request holds: its body, and what was fetched for it. A context manager that releases them."""

    def __init__(self, admission: Admission):
        self._admission = admission
        self._held = 0

    def __enter__(self) -> ByteReservation:
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.bytes -= self._held
        self._held = 0

    def announce(self, n: int) -> None:
        """Refuse now what :meth:`take` would refuse after ``n`` more bytes; nothing is reserved."""
        limit = self._admission.max_request_bytes
        if self._held + n > limit:
            raise PictureTooLarge(f"The request is over the limit of {limit / 2**20:.3g} MB.")
        if self._admission.bytes + n > self._admission.max_bytes:
            raise Overloaded("The server holds as many request bytes as it can.", retry_after=_RETRY_AFTER)

    def take(self, n: int) -> None:
        """Count ``n`` more bytes. Raises PictureTooLarge over the request's own limit, Overloaded over the common one.
        """
        self.announce(n)
        self.add(n)

    def add(self, n: int) -> None:
        """Count ``n`` more bytes that are held already, such as those of an answer that is not read yet."""
        self._held += n
        self._admission.bytes += n
