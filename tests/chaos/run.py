"""``make chaos``: every fault, several times each, under a load whose right answers are known.

    python tests/chaos/run.py --repository DIR [--times 10] [--only kill hang ...] [--list]

Each row is a server of its own with four callers. The status is 0 when no answer was wrong, no request failed that
another process could have answered, everything was as before after each strike, and no shared memory was left.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ends
from crowd import Crowd, Seen
from faults import FAULTS, Fault, Scene
from house import House

_LONGEST = 120.0  # seconds until a strike must be over
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
    fine = True
    faults = [name for name in options.only if name in FAULTS]
    if faults:
        print("| fault | times | requests | failed | wrong | back after, s (median, worst) | p99, s | |")
        print("|---|---|---|---|---|---|---|---|")
    for name in faults:
        row, kept = _strikes(FAULTS[name], options)
        fine &= kept
        print(f"| {name}: {FAULTS[name].what} | {row} |", flush=True)
    endings = [name for name in options.only if name in ends.ENDS]
    if endings:
        print("\n| end, under load | times | requests | failed | exit status | all gone after, s | left | |")
        print("|---|---|---|---|---|---|---|---|")
    for name in endings:
        row, kept = _endings(ends.ENDS[name], options)
        fine &= kept
        print(f"| {name}: {ends.ENDS[name].what} | {row} |", flush=True)
    return 0 if fine else 1


def _enter_own_mounts() -> None:
    """Begin again where mounts are this process's own, if the machine lets us; they vanish with it."""
    for namespace in _NAMESPACES:
        command = [*namespace, "--propagation", "private"]
        if shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            os.execvp(command[0], [*command, sys.executable, *sys.argv, _INSIDE])


def _strikes(fault: Fault, options: argparse.Namespace) -> tuple[str, bool]:
    """The cells of a row, and whether the promises were kept."""
    reason = fault.needs(options.private)
    if reason:
        return f"0 | - | - | - | - | - | not run: {reason}", True
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        folder, times = Path(name), min(options.times, fault.most)
        before = set(os.listdir("/dev/shm"))
        temporary = folder / "tmp"
        temporary.mkdir()
        if options.private:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(temporary)], check=True)
        with House(folder, options.repository) as house:
            seen, back = _foreign(house, fault, times) if fault.foreign else _at(house, fault, times, options.private)
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


def _at(house: House, fault: Fault, times: int, private: bool) -> tuple[Seen, list[float]]:
    with Crowd(house.port) as crowd:
        return crowd.seen, _all_strikes(fault, Scene(house, crowd, house.folder, private), times)


def _foreign(house: House, fault: Fault, times: int) -> tuple[Seen, list[float]]:
    """The same for a second server that asks the tritonserver of ``house``."""
    folder = house.folder / "front"
    folder.mkdir()
    (folder / "models").symlink_to(house.repository)
    (address,) = house.temporary.glob("tritonvision-server-*/server/grpc:1")
    with House(folder, None, "--triton-url", f"unix:{address}") as front, Crowd(front.port) as crowd:
        scene, back = Scene(front, crowd, folder, False), []
        for _ in range(times):
            scene.known["foreign"] = str(house.triton())
            back += _all_strikes(fault, scene, 1)
            house.wait(house.whole)
    return crowd.seen, back


def _all_strikes(fault: Fault, scene: Scene, times: int) -> list[float]:
    """Seconds from each strike until it was over."""
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
        time.sleep(1.0)
    return back


def _endings(end: ends.End, options: argparse.Namespace) -> tuple[str, bool]:
    found = []
    for _ in range(options.times):
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
            found.append(ends.trial(end, Path(name), options.repository))
    kept = all(ended.as_promised(end) for ended in found)
    cells = (
        len(found), sum(ended.requests for ended in found), sum(ended.failed for ended in found),
        "/".join(sorted({str(ended.status) for ended in found})), f"{max(ended.seconds for ended in found):.1f}",
        f"{sum(e.orphans for e in found)} processes, {sum(e.regions for e in found)} regions",
        "kept" if kept else "BROKEN",
    )  # fmt: skip
    return " | ".join(map(str, cells)), kept


if __name__ == "__main__":
    sys.exit(main())
