"""How the server ends under load, and what it leaves: one row for each way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crowd import Crowd
from house import NET, PRE, House, gone, kill


@dataclass(frozen=True)
class End:
    """One way.

    Attributes:
        what: happens, for the table.
        first: a fault right before the end.
        signal: sent to the process that was started.
        seconds: it may take.
    """

    what: str
    first: Callable[[House], None]
    signal: int
    seconds: float


def _hit(model: str, number: int) -> Callable[[House], None]:
    return lambda house: kill(house.stub(model).pid, number)


ENDS = {
    "terminate": End("SIGTERM", lambda house: None, signal.SIGTERM, 10),
    "terminate-dead": End("SIGTERM just after a process was killed", _hit(PRE, signal.SIGKILL), signal.SIGTERM, 15),
    "terminate-hung": End("SIGTERM just after a process was stopped", _hit(NET, signal.SIGSTOP), signal.SIGTERM, 15),
    "kill-serve": End("SIGKILL of the process that was started", lambda house: None, signal.SIGKILL, 10),
}


@dataclass
class Ended:
    """What was seen.

    Attributes:
        status: exit status.
        seconds: until everything below it was gone.
        requests: that were answered, or failed.
        failed: requests.
        orphans: processes of it that outlived it.
        regions: of shared memory that were left; after SIGKILL, those that the next start left.
    """

    status: int
    seconds: float
    requests: int
    failed: int
    orphans: int
    regions: int

    def as_promised(self, end: End) -> bool:
        """Whether the promises were kept; who is killed may fail its callers."""
        kind = end.signal == signal.SIGKILL or (self.status == 0 and not self.failed)
        return kind and self.seconds <= end.seconds and not self.orphans and not self.regions


def trial(end: End, folder: Path, source: Path) -> Ended:
    """Start a server, load it, end it."""
    before = _regions()
    house = House(folder, source)
    with house, Crowd(house.port, leaves=True) as crowd:
        assert house.wait(lambda: crowd.seen.requests > 10)
        family = house.family()
        end.first(house)
        began = time.monotonic()
        kill(house.process.pid, end.signal)
        status = house.process.wait(60)
        house.wait(lambda: gone(family), end.seconds + 5)
        seconds = time.monotonic() - began
    orphans = sum(not gone([pid]) for pid in family)
    if end.signal == signal.SIGKILL:
        next_folder = folder / "next"
        next_folder.mkdir()
        (next_folder / "models").symlink_to(house.repository)
        # the abandoned files lie in the folder for temporary files of the one before
        with House(next_folder, None, environment={"TMPDIR": str(house.temporary)}):
            pass
    seen = crowd.seen
    left = len(_regions() - before)
    return Ended(status, seconds, seen.requests, seen.failed.total() + seen.wrong, orphans, left)


def _regions() -> set[str]:
    return {name for name in os.listdir("/dev/shm") if name.startswith("triton_")}
