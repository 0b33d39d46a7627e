"""``make soak``: mixed load, models that come and go, processes that are killed, and what the server holds meanwhile.

    python tests/chaos/soak.py --repository DIR [--minutes 10] [--cycles 200]

Two models at a time are unloaded and loaded; after some such cycles everything is loaded and at rest, and what the
server holds is written down. The table has a row for the samples after the warm-up, and one for the last. The status is
0 when resident memory grew by less than 3 %, nothing else grew, and no request failed but with "come again". Of
processes that were killed the tritonserver may keep a bounded number of descriptors, see ``stubs.worn``. A run that
takes less than five minutes does not judge resident memory, which has not settled by then, and says so. Where the
cycles take longer than the minutes, so does the run.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import math
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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path

from crowd import pictures
from house import CLASSES, FACE, House, kill
from progress import Bar

from tritonvision.server import stubs

_BOXES, _WRITER = "yolov8n-640", "tests/small-vlm/1"
_MODELS = (FACE, CLASSES, _BOXES, _WRITER)
_COME_AND_GO = (CLASSES, _BOXES, _WRITER)
_AT_ONCE = 2  # models that are loaded at once
_GROWTH = 0.03
_SETTLED = 5.0  # minutes
_SAMPLES = 20
_WARM_UP = 0.25  # share of the samples
_SOME = 4  # descriptors: the connections of the moment
_KEPT_OF_EACH = 2  # descriptors that Triton keeps of a process that was killed at work: of it, and of its sibling
_COME_AGAIN = 503
_KILL_EACH = 10  # cycles
_LONGEST_LOAD = 60.0  # seconds until a model that is told to come again has failed to load
_SHARED = Path("/dev/shm")
_PAUSE = 0.25  # seconds of a caller between two questions: loads need the processor, too


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
        self._house, self._stop, self._counting = house, threading.Event(), threading.Lock()
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

    def count(self, status: int | str) -> None:
        """Count an answer."""
        with self._counting:
            self.statuses[status] += 1

    def _ask(self, path: str, body: dict) -> None:
        while not self._stop.is_set():
            status = post(self._house, path, body)
            self.count(status)
            self._stop.wait(_PAUSE if status == 200 else 2 * _PAUSE)


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
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as name:
        with House(Path(name), options.repository, models=_MODELS) as house, Load(house) as load, Bar() as bar:
            run = soak(house, load, options.minutes * 60, options.cycles, bar)
    return report(run, load.statuses)


@dataclass
class Run:
    """What happened.

    Attributes:
        held: what was held each time that everything was loaded and at rest.
        cycles: models that were unloaded and loaded.
        kills: of processes.
        seconds: it took.
        regions: names of the shared memory that the server had at some time.
    """

    held: list[Held] = field(default_factory=list)
    cycles: int = 0
    kills: int = 0
    seconds: float = 0.0
    regions: set[str] = field(default_factory=set)


def soak(house: House, load: Load, seconds: float, cycles: int, bar: Bar) -> Run:
    """Unload and load models ``cycles`` times over ``seconds``, and kill a process now and then."""
    run, began, pick, turns = Run(), time.monotonic(), random.Random(0), itertools.cycle(_COME_AND_GO)
    samples = min(_SAMPLES, max(cycles // 4, 2))
    task = bar.add_task("", total=cycles)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while run.cycles < cycles:
            models = list(itertools.islice(turns, min(_AT_ONCE, cycles - run.cycles)))
            before, run.cycles = run.cycles, run.cycles + len(models)
            coming = [pool.submit(_comes_and_goes, house, load, model) for model in models]
            if run.cycles // _KILL_EACH > before // _KILL_EACH:
                kill(pick.choice(sorted(stub.pid for stub in _steps(house))))
                run.kills += 1
            for done in coming:
                done.result()
            if run.cycles * samples // cycles > before * samples // cycles:
                run.held.append(sample(house, run))
                bar.update(task, description=f"{run.held[-1].resident:.0f} MB")
            bar.update(task, completed=run.cycles)
            time.sleep(max(began + seconds * run.cycles / cycles - time.monotonic(), 0))
    run.seconds = time.monotonic() - began
    return run


def _comes_and_goes(house: House, load: Load, model: str) -> None:
    """Unload a model and load it; where that fails it is counted with the answers."""
    for path in ("/model/remove", "/model/add"):
        end = time.monotonic() + _LONGEST_LOAD
        while (status := post(house, path, {"model_id": model})) == _COME_AGAIN and time.monotonic() < end:
            time.sleep(1)
        if status != 200:
            load.count(f"{status} of {path}")


def _steps(house: House) -> list[stubs.Stub]:
    """The Python processes of its tritonserver; none where that is being replaced."""
    triton = house.triton()
    return [] if triton is None else [*stubs.of_server(triton).values()]


def sample(house: House, run: Run) -> Held:
    """What is held once every model is loaded and no process is being replaced. Notes its regions."""
    for model in _MODELS:
        post(house, "/model/add", {"model_id": model})
    usual = run.held[0].regions if run.held else math.inf
    house.wait(lambda: house.ready() and _settled(house, usual), 90)
    triton, steps, facade = house.triton(), _steps(house), house.serving()
    assert triton is not None and facade is not None, "the server has no tritonserver"
    own = {stub.region for stub in steps}
    run.regions |= own
    shared = sum(os.stat(_SHARED / name).st_blocks * 512 for name in own if (_SHARED / name).exists())
    resident = [stubs.resident(pid) / 1e6 for pid in (facade, triton, *(stub.pid for stub in steps))]
    return Held(
        *resident[:2], sum(resident[2:]), shared / 1e6, len(own), open_files(facade), open_files(triton)
    )  # fmt: skip


def _settled(house: House, usual: float) -> bool:
    """Whether one tritonserver has the same processes for two seconds, not more than usual: none ends just now."""
    before = _steps(house)
    time.sleep(2)
    return bool(before) and _steps(house) == before and len(before) <= usual and len(house.tritons()) == 1


def open_files(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def report(run: Run, statuses: Counter) -> int:
    """Print what was held early and late, and what broke; the exit status."""
    warm = run.held[int(len(run.held) * _WARM_UP) :]
    third = max(len(warm) // 3, 1)
    early, late = (_median(part) for part in (warm[:third], warm[-third:]))
    print("| | facade, MB | tritonserver, MB | steps, MB | shared, MB | regions | descriptors |")
    print("|---|---|---|---|---|---|---|")
    for name, row in (("after the warm-up", early), ("at the end", late)):
        print(
            f"| {name} | {row.facade:.0f} | {row.tritonserver:.0f} | {row.steps:.0f} | {row.shared:.1f} "
            f"| {row.regions:.0f} | {row.facade_files:.0f}, {row.tritonserver_files:.0f} |"
        )
    growth, judged = late.resident / early.resident - 1, run.seconds / 60 >= _SETTLED
    failed = {status: count for status, count in statuses.items() if status not in (200, _COME_AGAIN)}
    left = sum((_SHARED / name).exists() for name in run.regions)
    print(
        f"\n{run.seconds / 60:.1f} minutes, {run.cycles} loads and unloads, {run.kills} kills, "
        f"{statuses[200]} answers, {statuses[_COME_AGAIN]} told to come again, failed: {failed or 'none'}; "
        f"resident memory {growth:+.1%}{'' if judged else ', not judged in so short a time'}, {left} regions left."
    )
    files = [held.tritonserver_files for held in warm]
    # that it is replaced takes a while, in which one more may be killed
    kept = _KEPT_OF_EACH * min(run.kills, stubs.MOST_HELD // _KEPT_OF_EACH + 2)
    broken = [
        what
        for what, is_so in (
            ("resident memory grew", growth >= _GROWTH and judged),
            ("shared memory grew", late.shared > early.shared * (1 + _GROWTH)),
            ("regions grew", late.regions > early.regions),
            ("descriptors of the facade grew", late.facade_files > early.facade_files + _SOME),
            ("descriptors of tritonserver grew", max(files) > min(files) + _SOME + kept),
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
