"""``make chaos``: every fault, several times each, under a load whose right answers are known.

    python tests/chaos/run.py --repository DIR [--times 10] [--only kill hang ...] [--list]

Each row is a server of its own with four callers. The status is 0 when no answer was wrong, no request failed that
another process could have answered, everything was as before after each strike, and no shared memory was left. A bar
shows on a terminal how far it is; the last line says how long it took.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import ends
from crowd import Crowd, Seen
from faults import FAULTS, Fault, Scene
from house import House
from progress import Bar

_LONGEST = 120.0  # seconds until a strike must be over
# What ends a row: a server that does not start, a fault that cannot be brought about, a state that does not come.
_UNDONE = (AssertionError, OSError, SystemExit, subprocess.SubprocessError)
_INSIDE = "--in-own-mounts"
_NAMESPACES = (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])


def main() -> int:
    """Run what was asked for and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--list", action="store_true", help="print the names of all, and do nothing")
    parser.add_argument("--only", nargs="+", default=[*FAULTS, *ends.ENDS], choices=[*FAULTS, *ends.ENDS])
    parser.add_argument(_INSIDE, dest="private", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        print(*FAULTS, *ends.ENDS)
        return 0
    if not options.private:
        _enter_own_mounts()
    else:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", "/dev/shm"], check=True)
    began, times = time.monotonic(), {name: _times(name, options) for name in options.only}
    with Bar() as bar:
        kept = [*_faults(options, times, bar), *_all_endings(options, times, bar)]
    minutes = (time.monotonic() - began) / 60
    broken = kept.count(False)
    print(f"\n{sum(times.values())} strikes in {minutes:.1f} minutes; of {len(kept)} rows {broken or 'none'} broken.")
    return 1 if broken else 0


def _times(name: str, options: argparse.Namespace) -> int:
    """How often a fault or an end is brought about; 0 where this machine cannot."""
    if name in ends.ENDS:
        return options.times
    return 0 if FAULTS[name].needs(options.private) else min(options.times, FAULTS[name].most)


def _faults(options: argparse.Namespace, times: Mapping[str, int], bar: Bar) -> list[bool]:
    """Print the table of faults; of each row whether the promises were kept."""
    chosen = {name: fault for name, fault in FAULTS.items() if name in options.only}
    if chosen:
        bar.say("| fault | times | requests | failed | wrong | back after, s (median, worst) | p99, s | |")
        bar.say("|---|---|---|---|---|---|---|---|")
    found = []
    task = bar.add_task("", total=sum(times[name] for name in chosen))
    for name, fault in chosen.items():
        bar.update(task, description=name)
        strikes = partial(_strikes, fault, options, times[name], lambda: bar.advance(task))
        row, kept = _tried(strikes)
        bar.say(f"| `{name}`: {fault.what} | {row} |")
        found.append(kept)
    bar.remove_task(task)
    return found


def _all_endings(options: argparse.Namespace, times: Mapping[str, int], bar: Bar) -> list[bool]:
    """Print the table of ends; of each row whether the promises were kept."""
    chosen = {name: end for name, end in ends.ENDS.items() if name in options.only}
    if chosen:
        bar.say("\n| end, under load | times | requests | failed | exit status | all gone after, s | left | |")
        bar.say("|---|---|---|---|---|---|---|---|")
    found = []
    task = bar.add_task("", total=sum(times[name] for name in chosen))
    for name, end in chosen.items():
        bar.update(task, description=name)
        row, kept = _tried(partial(_endings, end, options, times[name], lambda: bar.advance(task)))
        bar.say(f"| `{name}`: {end.what} | {row} |")
        found.append(kept)
    bar.remove_task(task)
    return found


def _tried(work: Callable[[], tuple[str, bool]]) -> tuple[str, bool]:
    """``work()``; where it cannot be done to its end, the cells of a broken row, and the next row follows."""
    try:
        return work()
    except _UNDONE as error:
        traceback.print_exc()
        return f"{'- | ' * 6}BROKEN: {(str(error) or repr(error)).splitlines()[0]}", False


def _enter_own_mounts() -> None:
    """Begin again where mounts are this process's own, if the machine lets us; they vanish with it."""
    for namespace in _NAMESPACES:
        command = [*namespace, "--propagation", "private"]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            os.execvp(command[0], [*command, sys.executable, *sys.argv, _INSIDE])


def _strikes(
    fault: Fault, options: argparse.Namespace, times: int, struck: Callable[[], None]
) -> tuple[str, bool]:  # fmt: skip
    """The cells of a row, and whether the promises were kept."""
    reason = fault.needs(options.private)
    if reason:
        return f"0 | - | - | - | - | - | not run: {reason}", True
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        before = set(os.listdir("/dev/shm"))
        temporary = folder / "tmp"
        temporary.mkdir()
        if options.private:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(temporary)], check=True)
        with House(folder, options.repository) as house:
            at = _foreign if fault.foreign else _at
            seen, back = at(house, fault, times, options.private, struck)
        left = [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("triton_")]
        kept = _kept(fault, seen, back) and not left
        if not kept:
            sys.stderr.write((folder / f"serve-{house.port}.log").read_text()[-6000:])
            sys.stderr.writelines(path.read_text()[-3000:] for path in temporary.glob("tritonserver-*.log"))
            sys.stderr.write(f"shared memory left: {left}\n")
        if options.private:  # a folder with mounts in it cannot be removed
            subprocess.run(["umount", "--lazy", "--quiet", str(temporary), str(folder / "models")], check=False)
    back = sorted(back)
    failed = ", ".join(f"{count} with {status}" for status, count in seen.failed.items()) or "0"
    cells = (
        times, seen.requests, failed, seen.wrong, f"{back[len(back) // 2]:.1f}, {back[-1]:.1f}",
        f"{seen.percentile(0.99):.2f}", "kept" if kept else "BROKEN",
    )  # fmt: skip
    return " | ".join(map(str, cells)), kept


def _kept(fault: Fault, seen: Seen, back: list[float]) -> bool:
    tolerated = sum(seen.failed[status] for status in fault.tolerated)
    return not seen.wrong and seen.failed.total() == tolerated and max(back) < _LONGEST and bool(seen.seconds)


def _at(
    house: House, fault: Fault, times: int, private: bool, struck: Callable[[], None]
) -> tuple[Seen, list[float]]:  # fmt: skip
    with Crowd(house.port) as crowd:
        return crowd.seen, _all_strikes(fault, Scene(house, crowd, house.folder, private), times, struck)


def _foreign(
    house: House, fault: Fault, times: int, private: bool, struck: Callable[[], None]
) -> tuple[Seen, list[float]]:  # fmt: skip
    """The same for a second server that asks the tritonserver of ``house``."""
    folder = house.folder / "front"
    folder.mkdir()
    (folder / "models").symlink_to(house.repository)
    (address,) = house.temporary.glob("tritonvision-server-*/server/grpc:1")
    with House(folder, None, "--triton-url", f"unix:{address}") as front, Crowd(front.port) as crowd:
        scene, back = Scene(front, crowd, folder, private), []
        for _ in range(times):
            scene.known["foreign"] = str(house.triton())
            back += _all_strikes(fault, scene, 1, struck)
            house.wait(house.whole)
    return crowd.seen, back


def _all_strikes(fault: Fault, scene: Scene, times: int, struck: Callable[[], None]) -> list[float]:
    """Seconds from each strike until it was over; ``struck()`` is called after each."""
    back = []
    assert scene.house.wait(lambda: scene.crowd.seen.requests > 10), "nobody is answered before the first strike"
    for number in range(times):
        scene.number, scene.victims[:] = number, []
        began = time.monotonic()
        fault.strike(scene)
        time.sleep(fault.lasts)
        fault.undo(scene)
        over = scene.house.wait(lambda: fault.over(scene), _LONGEST)
        back.append(time.monotonic() - began if over else _LONGEST)
        struck()
        time.sleep(1.0)
    return back


def _endings(
    end: ends.End, options: argparse.Namespace, times: int, ended: Callable[[], None]
) -> tuple[str, bool]:  # fmt: skip
    found = []
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
            found.append(ends.trial(end, Path(name), options.repository))
        ended()
    kept = all(one.as_promised(end) for one in found)
    cells = (
        len(found), sum(one.requests for one in found), sum(one.failed for one in found),
        "/".join(sorted({str(one.status) for one in found})), f"{max(one.seconds for one in found):.1f}",
        f"{sum(one.orphans for one in found)} processes, {sum(one.regions for one in found)} regions",
        "kept" if kept else "BROKEN",
    )  # fmt: skip
    return " | ".join(map(str, cells)), kept


if __name__ == "__main__":
    sys.exit(main())
