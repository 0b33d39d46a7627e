"""A day of a fleet under an autoscaler, with nodes that die: a table in Markdown and docs/images/autoscaler.svg.

    python benchmarks/autoscaler.py [--rate 27.3] [--peak 10000] [--svg FILE]

The model is fleet_model.py, in steps of a second. The day has a trough at 8 h, a peak at 20 h, and a wave at noon that
makes half as much again out of the traffic within a minute. Nothing is measured here but what --rate says of a replica
(benchmarks/RESULTS.md); autoscaler_check.py holds the model against real servers.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fleet_model import Policy, Replica, Run, simulate

DAY = 86_400
_WAVE, _WAVE_RISES, _WAVE_LASTS = 12 * 3600, 60, 1800  # seconds
_ZONE = 19.5 * 3600
_MONTH = 30 * DAY


@dataclass(frozen=True)
class Scenario:
    """A row of the table."""

    name: str
    policy: Policy
    replica: Replica
    zone: bool = False
    begin: int | None = None


def traffic(peak: float):
    """Pictures a second at a time of the day."""

    def rate(now: float) -> float:
        day = 0.575 + 0.425 * math.cos(2 * math.pi * (now / 3600 - 20) / 24)
        since = now - _WAVE
        wave = 0.5 * min(since / _WAVE_RISES, 1.0) if 0 <= since < _WAVE_LASTS else 0.0
        return peak * day * (1 + wave)

    return rate


def scenarios(rate: float, peak: float) -> list[Scenario]:
    """What is compared: a fixed fleet, one that follows slowly, tightly, with headroom, and with spare nodes."""
    node = Replica(rate, start=20.0, node=180.0, life=_MONTH)
    ready = Replica(rate, start=20.0, node=180.0, life=_MONTH, spare=math.ceil(0.05 * peak / rate))
    full = math.ceil(peak / rate / 0.9)

    def policy(target: float, **more: float) -> Policy:
        return Policy(target, most=math.ceil(1.5 * full), **more)

    fixed = Policy(target=1.2, least=full, most=full)
    return [
        Scenario("as many as the highest second needs, all day", fixed, node, begin=full),
        Scenario("6 under way a replica", policy(6.0), node),
        Scenario("1.6 under way", policy(1.6), node),
        Scenario("1.2 under way", policy(1.2), node),
        Scenario("1.2, a twentieth of the nodes spare", policy(1.2), ready),
        Scenario("1.2, one less every two minutes", policy(1.2, fewer=1 / 1e9, fewer_period=120.0), node),
        Scenario("1.2, a third of all nodes dies at 19:30", policy(1.2), node, zone=True),
    ]


def run(scenario: Scenario, peak: float) -> Run:
    """The day of a scenario."""
    rate = traffic(peak)
    begin = scenario.begin or math.ceil(rate(0.0) / scenario.replica.rate / 0.6)
    deaths = [(_ZONE, 1 / 3)] if scenario.zone else []
    return simulate(rate, DAY, scenario.replica, scenario.policy, begin=begin, deaths=deaths)


def row(name: str, run: Run) -> str:
    """A row of the table."""
    waits = " | ".join(f"{run.wait(q) * 1000:.0f}" for q in (0.99, 1.0))
    hours = run.replica_hours()
    most = int(run.of("paid").max())
    answered = run.of("answered").sum() / 1e6
    return (
        f"| {name} | {100 * run.refused():.3f} | {waits} | {hours:,.0f} | {hours / answered:.2f} | {most} "
        f"| {100 * run.busy():.0f} | {int(run.of('lost').sum())} |"
    )


def main() -> None:
    """Print the table and draw the day of the first scenario with spare nodes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=27.3, help="pictures a second of one replica")
    parser.add_argument("--peak", type=float, default=10_000.0, help="pictures a second at 20 h")
    parser.add_argument("--svg", type=Path, default=Path(__file__).parents[1] / "docs" / "images" / "autoscaler.svg")
    given = parser.parse_args()
    pictures = sum(map(traffic(given.peak), range(DAY))) / 1e6
    print(f"{given.rate:g} pictures a second of a replica, {given.peak:g} at the peak, {pictures:.0f} million a day\n")
    print(
        "| policy | refused % | p99 wait ms | longest ms | replica-hours | hours a million | most replicas "
        "| busy % | died |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    drawn = None
    for scenario in scenarios(given.rate, given.peak):
        found = run(scenario, given.peak)
        print(row(scenario.name, found), flush=True)
        if scenario.zone:
            drawn = found
    assert drawn is not None
    draw(drawn, given.svg)


def draw(run: Run, target: Path) -> None:
    """Traffic and capacity, replicas, waiting and refusals over the day, a point for five minutes."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "autoscaler", "font.size": 9})
    from matplotlib import pyplot

    every = 300
    hours = np.arange(0, DAY, every) / 3600

    def mean(name: str) -> np.ndarray:
        return run.of(name).reshape(-1, every).mean(axis=1)

    def highest(name: str) -> np.ndarray:
        return run.of(name).reshape(-1, every).max(axis=1)

    figure, axes = pyplot.subplots(3, 1, figsize=(8, 6.4), sharex=True, layout="constrained")
    axes[0].plot(hours, mean("capacity"), color="#9ca3af", label="the fleet can answer")
    axes[0].plot(hours, mean("arrived"), color="#2563eb", label="pictures a second")
    axes[1].plot(hours, mean("paid"), color="#9ca3af", label="replicas paid for")
    axes[1].plot(hours, mean("ready"), color="#059669", label="replicas ready")
    axes[2].plot(hours, highest("wait") * 1000, color="#d97706", label="longest mean wait of a second, ms")
    axes[2].plot(hours, 100 * mean("refused") / mean("arrived"), color="#dc2626", label="refused, %")
    axes[2].set_yscale("symlog", linthresh=10)
    axes[2].set_xlabel("hour of the day")
    axes[2].set_xlim(0, 24)
    axes[2].set_xticks(range(0, 25, 2))
    for axis in axes:
        axis.set_ylim(bottom=0)
        axis.legend(loc="upper left", frameon=False)
        axis.grid(alpha=0.3)
    figure.savefig(target, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
