"""Waits for the end of any of some processes, which need not be children."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Collection


class Ends:
    """A thread waits in :meth:`wait`; others wake it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._pids: dict[int, int] = {}  # descriptor -> process id
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        self._poll.register(self._wake_read, select.POLLIN)

    def watch(self, pids: Collection[int]) -> None:
        """From now on wait for these processes, and no others."""
        for pid in set(pids) - set(self._pids.values()):
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                self._pids[descriptor] = pid
                self._poll.register(descriptor, select.POLLIN)
        for descriptor, pid in list(self._pids.items()):
            if pid not in pids:
                self._poll.unregister(descriptor)
                os.close(descriptor)
                del self._pids[descriptor]

    def wake(self) -> None:
        """End the wait, or the next one, at once."""
        with contextlib.suppress(BlockingIOError, OSError):
            os.write(self._wake_write, b"!")

    def wait(self, seconds: float) -> bool:
        """Sleep until a process ends or somebody wakes (True), at most ``seconds`` (False)."""
        events = self._poll.poll(seconds * 1000)
        if any(descriptor == self._wake_read for descriptor, _ in events):
            os.read(self._wake_read, 4096)
        return bool(events)
