"""Limits of one API key: requests a second, at this facade or at all that share a Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

from tritonvision.errors import TooManyRequests
from tritonvision.facade.shared_store import SharedStore, name_of

_BURST_SECONDS = 2.0  # of its rate that a key may use at once


class Rate:
    """A bucket of tokens that refills evenly.

    Args:
        per_second: requests.
        clock: seconds.
    """

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic):
        self._per_second, self._clock = per_second, clock
        self._most = self._left = max(per_second * _BURST_SECONDS, 1.0)
        self._seen = clock()
        self._owed = 0  # charged, and not told to the shared bucket yet

    @property
    def per_second(self) -> float:
        """The rate that it lets through."""
        return self._per_second

    def check(self) -> None:
        """Count one request. Raises TooManyRequests, with the seconds until there is room for one."""
        now = self._clock()
        self._left = min(self._left + (now - self._seen) * self._per_second, self._most)
        self._seen = now
        if self._left < 1.0:
            raise self._refused((1.0 - self._left) / self._per_second)
        self._left -= 1.0

    async def check_with(self, store: SharedStore, name: str) -> None:
        """As :meth:`check`, in a bucket that all facades with the same Redis share; alone while it does not answer.

        Args:
            name: of the key, the same at all of them.
        """
        owed, self._owed = self._owed, 0
        wait = await store.take(name_of("rate", name, str(self._per_second)), self._per_second, self._most, 1 + owed)
        if wait is None:
            self.check()
        elif wait > 0:
            self._owed += owed
            raise self._refused(wait)

    def charge(self, more: int) -> None:
        """Count ``more`` requests that are under way already, as pictures of a request are: the next ones wait."""
        self._left -= more
        self._owed += more

    def _refused(self, seconds: float) -> TooManyRequests:
        return TooManyRequests(
            f"This API key may send {self._per_second:g} requests a second.", retry_after=seconds
        )
