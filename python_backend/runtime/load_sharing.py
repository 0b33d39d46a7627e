"""Which processes of one model are busy, shared by memory without a system call."""

from __future__ import annotations

import mmap
import time

from tritonvision import heartbeat

# Callers that ask all the time keep every process at work: the next request of a process follows within milliseconds.
_AT_ONCE = 0.02


class Siblings:
    """As a context manager it marks this process as busy and returns whether it is the only busy one. A block may stand
    within another.

    Between two requests a busy process is idle for a moment. A process that begins just then would count as the only
    one, and both would run all their threads at once. So a process that ended its last work beside another, and gets
    its next at once, is not the only one either.

    The processes share a small file in the heartbeat folder, one byte each. Without a supervisor there is no such
    folder, and every process counts as the only one.

    Args:
        model: Triton name of the model.
        instance: Triton name of this instance, ``<model>_<group>_<index>``.
        count: processes of the model.
    """

    def __init__(self, model: str, instance: str, count: int):
        self._others: list[int] = []
        self._blocks, self._crowded_until = 0, 0.0
        folder = heartbeat.folder()
        if count < 2 or folder is None:
            return
        self._own = int(instance.rsplit("_", 1)[1]) % count
        self._others = [index for index in range(count) if index != self._own]
        with open(folder / f"busy-{model}", "a+b") as file:
            file.truncate(count)
            self._busy = mmap.mmap(file.fileno(), count)
        self._busy[self._own] = 0  # a process that died may have left it set

    def __enter__(self) -> bool:
        if not self._others:
            return True
        self._blocks += 1
        self._busy[self._own] = 1
        return not self._others_work() and time.monotonic() >= self._crowded_until

    def __exit__(self, *_: object) -> None:
        if self._others:
            self._blocks -= 1
            self._busy[self._own] = self._blocks > 0
            self._crowded_until = time.monotonic() + _AT_ONCE if self._others_work() else 0.0

    def _others_work(self) -> bool:
        return any(self._busy[index] for index in self._others)
