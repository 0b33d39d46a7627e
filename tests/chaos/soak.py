"""``make soak``: mixed load, models that come and go, processes that are killed, and what the server holds meanwhile.

    python tests/chaos/soak.py --repository DIR [--minutes 10] [--cycles 200]

The table has what the server holds: a line for the time after the warm-up, one for the end. The status is 0 when
resident memory grew by less than 3 %, nothing else grew, and no request failed but with "come again". Runs of less than
five minutes do not judge the memory, which has not settled by then.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import astuple, dataclass
from pathlib import Path

from crowd import pictures
from house import CLASSES, FACE, House, kill

from tritonvision.server import stubs

_BOXES, _WRITER = "yolov8n-640", "tests/small-vlm/1"
_MODELS = (FACE, CLASSES, _BOXES, _WRITER)
_GROWTH = 0.03
_SETTLED = 5.0  # minutes
_SAMPLES = 40
_WARM_UP = 0.25  # share of the samples
_SOME = 4  # descriptors: the connections of the moment
_COME_AGAIN = 503


@dataclass(frozen=True)
class Held:
    """What the server holds while all its models are loaded.

    Attributes:
        facade, tritonserver, steps: resident megabytes; of the steps together.
        shared: megabytes in /dev/shm.
        regions: of them.
        facade_files, tritonserver_files: open descriptors.
    """

    facade: float
    tritonserver: float
    steps: float
    shared: float
    regions: float
    facade_files: float
    tritonserver_files: float

    @property
    def resident(self) -> float:
        """Megabytes of all processes."""
        return self.facade + self.tritonserver + self.steps


class Load:
    """Callers of three dialects, a thread each, until they are told to stop."""

    def __init__(self, house: House):
        self.statuses: Counter[int | str] = Counter()
        self._house, self._stop = house, threading.Event()
        face, mirrored, *_ = pictures()
        image = {"type": "base64", "value": base64.b64encode(mirrored).decode()}
        url = "data:image/jpeg;base64," + base64.b64encode(face).decode()
        said = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
        chat = {"model": _WRITER, "messages": [{"role": "user", "content": said}], "max_tokens": 8, "stream": True}
        asked = [
            ("/infer/keypoints_detection", {"model_id": FACE, "image": image}),
            ("/infer/object_detection", {"model_id": _BOXES, "image": [image, image]}),
            (f"/models/{CLASSES}", {"inputs": image["value"]}),
            ("/v1/chat/completions", chat),
        ]
        self._threads = [threading.Thread(target=self._ask, args=question, daemon=True) for question in asked]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, path: str, body: dict) -> None:
        while not self._stop.is_set():
            status = post(self._house, path, body)
            self.statuses[status] += 1
            self._stop.wait(0.05 if status == 200 else 0.5)


def post(house: House, path: str, body: dict) -> int | str:
    """The status of a POST, or the name of what went wrong."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{house.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            said = answer.read()
            return "error in the stream" if b'"error"' in said else answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError as error:
        return type(error).__name__


def main() -> int:
    """Soak, and print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cycles", type=int, default=200)
    options = parser.parse_args()
    before = regions()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        with House(Path(name), options.repository, models=_MODELS) as house, Load(house) as load:
            held, kills = soak(house, options.minutes * 60, options.cycles)
    left = len(regions() - before)
    return report(held, load.statuses, options, kills, left)


def soak(house: House, seconds: float, cycles: int) -> tuple[list[Held], int]:
    """Load and unload models ``cycles`` times over ``seconds``, kill processes on the way; what was held, and kills."""
    began, held, kills, pick = time.monotonic(), [], 0, random.Random(0)
    samples = min(_SAMPLES, max(cycles // 4, 2))
    for cycle in range(cycles):
        model = _MODELS[1:][cycle % (len(_MODELS) - 1)]
        post(house, "/model/remove", {"model_id": model})
        if cycle % 10 == 5:
            triton = house.triton()
            victim = pick.choice(sorted(stubs.of_server(triton).values(), key=lambda stub: stub.pid))
            kill(victim.pid)
            kills += 1
        post(house, "/model/add", {"model_id": model})
        if (cycle + 1) * samples // cycles > cycle * samples // cycles:
            held.append(sample(house))
        time.sleep(max(began + seconds * (cycle + 1) / cycles - time.monotonic(), 0))
    return held, kills


def sample(house: House) -> Held:
    """What is held once every model is loaded and no process is being replaced."""
    for model in _MODELS:
        post(house, "/model/add", {"model_id": model})
    house.wait(lambda: house.ready() and _settled(house), 60)
    triton = house.triton()
    assert triton is not None
    steps = stubs.of_server(triton)
    own = {stub.region for stub in steps.values()}
    shared = sum(os.stat(f"/dev/shm/{name}").st_blocks * 512 for name in own if os.path.exists(f"/dev/shm/{name}"))
    facade = house.process.pid
    return Held(
        resident(facade), resident(triton), sum(map(resident, steps)), shared / 1e6, len(own), files(facade),
        files(triton),
    )  # fmt: skip


def _settled(house: House) -> bool:
    """Whether the number of processes is the same for two seconds: those that were replaced have ended."""
    triton = house.triton()
    if triton is None:
        return False
    before = set(stubs.of_server(triton))
    time.sleep(2)
    return set(stubs.of_server(triton)) == before


def resident(pid: int) -> float:
    """Megabytes of a process that are in memory."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return 0.0


def files(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def regions() -> set[str]:
    """Shared memory of tritonservers."""
    return {name for name in os.listdir("/dev/shm") if name.startswith("triton_")}


def report(held: list[Held], statuses: Counter, options: argparse.Namespace, kills: int, left: int) -> int:
    """Print what was held early and late, and what broke; the exit status."""
    warm = held[int(len(held) * _WARM_UP) :]
    third = max(len(warm) // 3, 1)
    early, late = (_median(part) for part in (warm[:third], warm[-third:]))
    print("| | facade, MB | tritonserver, MB | steps, MB | shared, MB | regions | descriptors |")
    print("|---|---|---|---|---|---|---|")
    for name, row in (("after the warm-up", early), ("at the end", late)):
        print(
            f"| {name} | {row.facade:.0f} | {row.tritonserver:.0f} | {row.steps:.0f} | {row.shared:.1f} "
            f"| {row.regions:.0f} | {row.facade_files:.0f}, {row.tritonserver_files:.0f} |"
        )
    growth = late.resident / early.resident - 1
    failed = {status: count for status, count in statuses.items() if status not in (200, _COME_AGAIN)}
    print(
        f"\n{options.minutes:g} minutes, {options.cycles} loads and unloads, {kills} kills, "
        f"{statuses[200]} answers, {statuses[_COME_AGAIN]} told to come again, failed: {failed or 'none'}; "
        f"resident memory {growth:+.1%}, {left} regions left."
    )
    broken = [
        what
        for what, is_so in (
            ("resident memory grew", growth >= _GROWTH and options.minutes >= _SETTLED),
            ("shared memory grew", late.shared > early.shared * (1 + _GROWTH)),
            ("regions grew", late.regions > early.regions),
            ("descriptors of the facade grew", late.facade_files > early.facade_files + _SOME),
            ("descriptors of tritonserver grew", late.tritonserver_files > early.tritonserver_files + _SOME),
            ("requests failed", bool(failed)),
            ("shared memory was left", left > 0),
        )
        if is_so
    ]
    print(f"BROKEN: {', '.join(broken)}." if broken else "kept")
    return 1 if broken else 0


def _median(part: list[Held]) -> Held:
    return Held(*map(statistics.median, zip(*map(astuple, part), strict=True)))


if __name__ == "__main__":
    sys.exit(main())
