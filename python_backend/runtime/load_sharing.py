"""Which processes of one model are busy, shared by memory without a system call."""

from __future__ import annotations

import mmap

from tritonvision import heartbeat


class Siblings:
    """As a context manager it marks this process as busy and returns whether it is the only busy one. A block may stand
    within another.

    The processes share a small file in the heartbeat folder, one byte each. Without a supervisor there is no such
    folder, and every process counts as the only one.

    Args:
        model: Triton name of the model.
        instance: Triton name of this instance, ``<model>_<group>_<index>``.
        count: processes of the model.
    """

    def __init__(self, model: str, instance: str, count: int):
        self._others: list[int] = []
        self._blocks = 0
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
        return not any(self._busy[index] for index in self._others)

    def __exit__(self, *_: object) -> None:
        if self._others:
            self._blocks -= 1
            self._busy[self._own] = self._blocks > 0
