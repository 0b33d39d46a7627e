"""The model of the fleet against one to three real servers under the same autoscaler: docs/scaling.md has the table.

    python benchmarks/autoscaler_check.py --repository DIR [--milliseconds 200]

Each replica is a `tritonvision serve` with a tritonserver of its own; the network sleeps, so that two cores suffice for
three of them. Pictures arrive at random moments and go to any ready replica. The autoscaler starts and ends servers by
the pictures under way, and one server is killed (SIGKILL) while all are busy. The same traffic, rate of a replica,
seconds of a start, death and policy are then given to fleet_model.py.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import load
import machine
import overload
import pictures
from fleet_model import Autoscaler, Policy, Replica, Run, simulate
from served import Served

_FACE = "mediapipe-face-detection"
_TICK = 0.25
_POLICY = Policy(1.6, period=3.0, delay=0.0, growth=2.0, hold=10.0, fewer=0.34, fewer_period=3.0, least=1, most=3)
_PHASES = ((0.0, 0.4), (25.0, 2.2), (75.0, 0.4))  # from this second on, times what one replica can answer
_KILL, _END = 52.0, 105.0


def traffic(one: float):
    """Pictures a second at a time, for replicas that answer ``one`` each."""
    return lambda now: one * next(share for begin, share in reversed(_PHASES) if now >= begin)


@dataclass
class Fleet:
    """The real replicas, and what came of each picture: (second it arrived, seconds it took, status)."""

    root: Path
    ready: list[Served] = field(default_factory=list)
    starting: int = 0
    under_way: int = 0
    seen: list[tuple[float, float, int]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    async def start(self) -> None:
        """Start one more, ready with its model loaded."""
        self.starting += 1
        began = time.perf_counter()
        server = Served(self.root, _FACE)
        await asyncio.to_thread(server.__enter__)
        self.starts.append(time.perf_counter() - began)
        self.starting -= 1
        self.ready.append(server)

    async def stop(self) -> None:
        """Take one out, and end it."""
        await asyncio.to_thread(self.ready.pop().__exit__)

    async def ask(self, messages, due: float, began: float) -> None:
        """One picture, asked again elsewhere once when its server dies."""
        self.under_way += 1
        status = 0
        try:
            for _ in range(2):
                try:
                    status = await _ask(random.choice(self.ready).port, next(messages))
                    break
                except (OSError, asyncio.IncompleteReadError, IndexError):
                    await asyncio.sleep(0.05)
        finally:
            self.under_way -= 1
            self.seen.append((due - began, time.perf_counter() - due, status))


async def _ask(port: int, message: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        writer.write(message)
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        await reader.readexactly(int(fields["content-length"]))
        return int(head.split()[1])
    finally:
        writer.close()


async def real(root: Path, messages: list[bytes]) -> tuple[Fleet, list[tuple[float, int, float]], float]:
    """The run with real servers: the fleet, (second, ready, under way) each tick, and what one replica answers."""
    fleet, turns = Fleet(root), itertools.cycle(messages)
    await fleet.start()
    one = (await asyncio.to_thread(load.run, fleet.ready[0].port, messages, 6, 8.0)).per_second
    rate, gaps, tasks, ticks = traffic(one), random.Random(0), set(), []
    scaler, began = Autoscaler(_POLICY, 1), time.perf_counter()

    async def arrivals() -> None:
        due = began
        while (due := due + gaps.expovariate(rate(due - began))) < began + _END:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            tasks.add(asyncio.create_task(fleet.ask(turns, due, began)))

    async def control() -> None:
        killed, changes = False, set()
        while (now := time.perf_counter() - began) < _END:
            if now >= _KILL and not killed and len(fleet.ready) > 1:
                killed = True
                victim = fleet.ready.pop(0)
                victim.kill()
            wanted = scaler.see(now, fleet.under_way)
            there = len(fleet.ready) + fleet.starting
            change = fleet.start if wanted > there else fleet.stop if wanted < there and len(fleet.ready) > 1 else None
            if change is not None:
                changes.add(asyncio.create_task(change()))
                await asyncio.sleep(0)
            ticks.append((now, len(fleet.ready), fleet.under_way))
            await asyncio.sleep(_TICK)
        await asyncio.gather(*changes)

    await asyncio.gather(arrivals(), control())
    await asyncio.gather(*tasks)
    for server in fleet.ready:
        server.__exit__()
    return fleet, ticks, one


def modelled(one: float, start: float) -> Run:
    """The same by the model."""
    replica = Replica(one, start=start)
    return simulate(traffic(one), _END, replica, _POLICY, begin=1, step=_TICK, deaths=[(_KILL, 1 / 3)])


def report(fleet: Fleet, ticks: list[tuple[float, int, float]], one: float, run: Run) -> None:
    """A table: each phase, real and modelled."""
    start = statistics.mean(fleet.starts[1:] or fleet.starts)
    print(f"A replica answers {one:.1f} a second and starts in {start:.1f} s; {len(fleet.seen)} pictures\n")
    print("| seconds | replicas ready, real | model | under way, real | model | mean s of an answer, real | model |")
    print("|---|---|---|---|---|---|---|")
    for begin, end in ((5, 25), (25, 40), (40, 52), (52, 75), (75, 85), (85, 105)):
        within = [tick for tick in ticks if begin <= tick[0] < end]
        took = [seconds for at, seconds, status in fleet.seen if begin <= at < end and status == 200]
        steps = slice(int(begin / _TICK), int(end / _TICK))
        ready, under_way, wait = (float(run.of(name)[steps].mean()) for name in ("ready", "under_way", "wait"))
        print(
            f"| {begin} to {end} | {statistics.mean(t[1] for t in within):.2f} | {ready:.2f} "
            f"| {statistics.mean(t[2] for t in within):.1f} | {under_way:.1f} "
            f"| {statistics.mean(took):.2f} | {wait + 2 / one:.2f} |"
        )
    failed = [status for _, _, status in fleet.seen if status != 200]
    print(f"\nNot answered: {len(failed)} real ({sorted(set(failed))}), "
          f"{run.of('refused').sum():.0f} modelled")  # fmt: skip


def main() -> None:
    """Run, model, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--milliseconds", type=int, default=200)
    given = parser.parse_args()
    print(machine.describe())
    messages = load.requests("/infer/keypoints_detection", pictures.jpegs(4, 320, 240), model_id=_FACE)
    with tempfile.TemporaryDirectory() as folder:
        overload.publish(given.repository, Path(folder), given.milliseconds / 1000)
        fleet, ticks, one = asyncio.run(real(Path(folder), messages))
    report(fleet, ticks, one, modelled(one, statistics.mean(fleet.starts[1:] or fleet.starts)))


if __name__ == "__main__":
    main()
