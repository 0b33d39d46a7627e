"""Admission: limits on concurrent pictures, and on the request bytes held in memory, of which nobody may take all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from tritonvision.errors import Overloaded, PictureTooLarge

_RETRY_AFTER = 1.0
_TIMES_OF_WHAT_IS_LEFT = 3


class Budget:
    """Something countable that several holders share.

    A holder may have three times of what is left: alone it gets three quarters, two that want everything three
    sevenths each, and there is always something left for whoever comes next (dynamic thresholds, as switches share
    their buffers).

    Attributes:
        most: in all.
        taken: now.
    """

    def __init__(self, most: int):
        self.most, self.taken = most, 0
        self._held: Counter[Hashable] = Counter()

    def fits(self, n: int, *holders: Hashable) -> bool:
        """Whether there are ``n`` more for these holders."""
        left = self.most - self.taken
        return n <= left and all(self._held[holder] + n <= _TIMES_OF_WHAT_IS_LEFT * left for holder in holders)

    def held(self, holder: Hashable) -> int:
        """What ``holder`` has."""
        return self._held[holder]

    def take(self, n: int, *holders: Hashable) -> None:
        """Count ``n`` more."""
        self.taken += n
        for holder in holders:
            self._held[holder] += n

    def give(self, n: int, *holders: Hashable) -> None:
        """Count ``n`` less."""
        self.taken -= n
        for holder in holders:
            self._held[holder] -= n
            if not self._held[holder]:
                del self._held[holder]


class Admission:
    """The two budgets of one process. A request over a limit is refused at once: a queue would hide the load.

    No caller may take all of either, where the server tells callers apart, and no model all of the pictures.
    """

    def __init__(self, max_pictures: int, max_bytes: int, max_request_bytes: int):
        self._pictures, self.byte_budget = Budget(max_pictures), Budget(max_bytes)
        self.max_request_bytes = max_request_bytes

    @property
    def pictures(self) -> int:
        """Pictures in progress now."""
        return self._pictures.taken

    @property
    def bytes(self) -> int:
        """Bytes of request bodies and fetched pictures held now."""
        return self.byte_budget.taken

    def pictures_of(self, caller: str) -> int:
        """Pictures of one caller in progress now."""
        return self._pictures.held(("caller", caller))

    @contextmanager
    def admit(self, pictures: int, caller: str = "", model: str = "") -> Iterator[None]:
        """Admit ``pictures`` for the time of the block. A request over the limit alone passes when nothing else runs.

        Args:
            caller: who asks, empty where the server does not tell callers apart.
            model: that is asked.

        Raises:
            Overloaded: the limit is reached.
        """
        holders = [(kind, name) for kind, name in (("caller", caller), ("model", model)) if name]
        if self.pictures and not self._pictures.fits(pictures, *holders):
            raise Overloaded("The server is answering as many pictures as it can.", retry_after=_RETRY_AFTER)
        self._pictures.take(pictures, *holders)
        try:
            yield
        finally:
            self._pictures.give(pictures, *holders)


class ByteReservation:
    """The bytes one request holds: its body, and what was fetched for it. A context manager that releases them."""

    def __init__(self, admission: Admission):
        self._admission, self._budget = admission, admission.byte_budget
        self._held = 0
        self._holders: tuple[str, ...] = ()

    def __enter__(self) -> ByteReservation:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give(self._held, *self._holders)
        self._held = 0

    def belongs_to(self, caller: str) -> None:
        """Count the bytes for ``caller``, which is known when its key has been read; empty is nobody."""
        self._budget.give(self._held, *self._holders)
        self._holders = (caller,) if caller else ()
        self._budget.take(self._held, *self._holders)

    def announce(self, n: int) -> None:
        """Refuse now what :meth:`take` would refuse after ``n`` more bytes; nothing is reserved."""
        limit = self._admission.max_request_bytes
        if self._held + n > limit:
            raise PictureTooLarge(f"The request is over the limit of {limit / 2**20:.3g} MB.")
        if not self._budget.fits(n, *self._holders):
            raise Overloaded("The server holds as many request bytes as it can.", retry_after=_RETRY_AFTER)

    def take(self, n: int) -> None:
        """Count ``n`` more bytes. Raises PictureTooLarge over the request's own limit, Overloaded over the common one.
        """
        self.announce(n)
        self.add(n)

    def add(self, n: int) -> None:
        """Count ``n`` more bytes that are held already, such as those of an answer that is not read yet."""
        self._held += n
        self._budget.take(n, *self._holders)
