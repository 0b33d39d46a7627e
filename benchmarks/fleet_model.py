"""A model of many replicas under an autoscaler: `autoscaler.py` runs a day with it, `autoscaler_check.py` checks it.

Time goes in steps. In each, as many pictures arrive as the rate says and replicas answer as many as they can; what is
over that waits, or is refused where there is no room. Because pictures really arrive at random moments, some wait below
that, too: by the formula of a steady queue, towards which each step goes a part of the way. Nodes die at random, and
the autoscaler counts the pictures under way.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

_NEARLY_ALL = 0.98  # busy; beyond it the formula of a steady queue means nothing, and what waits is counted instead
_REGULARITY = 0.55  # half of the variations of arrivals (1: random) and of answers' times (0.1: nearly constant)


@dataclass(frozen=True)
class Replica:
    """One replica: a server with its copy of the model.

    Attributes:
        rate: pictures a second that it can answer.
        processes: pictures that it computes at the same time.
        room: pictures that it takes at the same time, waiting ones included; more are refused.
        start: seconds from the decision to the first answer, where a node is there.
        node: seconds until a node is there, where none is.
        a_node: replicas on one node.
        spare: nodes that are held ready.
        life: mean seconds until a node dies, None for never.
    """

    rate: float
    processes: int = 2
    room: int = 64
    start: float = 10.0
    node: float = 0.0
    a_node: int = 1
    spare: int = 0
    life: float | None = None

    @property
    def seconds(self) -> float:
        """That an answer takes when nothing waits."""
        return self.processes / self.rate


@dataclass(frozen=True)
class Policy:
    """What the autoscaler does.

    Attributes:
        target: pictures under way for each replica.
        period: seconds between two decisions; each sees the mean of the period before.
        delay: seconds by which what it sees is old.
        tolerance: share by which the number has to be off before anything is changed.
        growth: most replicas after a decision, as a multiple of those before.
        hold: seconds for which the highest wanted number is kept.
        fewer: most replicas that leave in ``fewer_period`` seconds, as a share of those there; at least one.
        least, most: bounds.
    """

    target: float
    period: float = 15.0
    delay: float = 15.0
    tolerance: float = 0.1
    growth: float = 2.0
    hold: float = 300.0
    fewer: float = 0.1
    fewer_period: float = 60.0
    least: int = 1
    most: int = 10_000


class Autoscaler:
    """The number of replicas from the pictures under way, one decision a period."""

    def __init__(self, policy: Policy, replicas: int):
        self.policy, self.wanted = policy, replicas
        self._seen: deque[tuple[float, float]] = deque()
        self._asked_for: deque[tuple[float, int]] = deque()
        self._next, self._left = policy.period, -math.inf

    def see(self, now: float, under_way: float) -> int:
        """The wanted number at the time ``now``, with that many pictures under way in all replicas together."""
        policy = self.policy
        self._seen.append((now, under_way))
        if now + 1e-9 < self._next:
            return self.wanted
        self._next += policy.period
        window = [n for at, n in self._seen if now - policy.delay - policy.period < at <= now - policy.delay]
        while self._seen and self._seen[0][0] < now - policy.delay - policy.period:
            self._seen.popleft()
        if not window:
            return self.wanted
        exact = sum(window) / len(window) / policy.target
        asked = self.wanted if abs(exact / self.wanted - 1) <= policy.tolerance else math.ceil(exact)
        asked = min(max(asked, policy.least), policy.most)
        self._asked_for.append((now, asked))
        while self._asked_for[0][0] < now - policy.hold:
            self._asked_for.popleft()
        held = max(number for _, number in self._asked_for)
        if held < self.wanted and now >= self._left + policy.fewer_period:
            self._left = now
            self.wanted = max(held, self.wanted - max(int(self.wanted * policy.fewer), 1))
        elif asked > self.wanted:
            self.wanted = min(asked, max(math.ceil(self.wanted * policy.growth), self.wanted + 4))
        return self.wanted


@dataclass
class Run:
    """What happened, a value a step: ``arrived``, ``answered``, ``refused`` and ``lost`` ..., see :func:`simulate`."""

    step: float
    series: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **values: float) -> None:
        """The values of the next step."""
        for name, value in values.items():
            self.series.setdefault(name, []).append(float(value))

    def of(self, name: str) -> np.ndarray:
        """All values of that name."""
        return np.array(self.series[name])

    def refused(self) -> float:
        """The share of pictures that were refused."""
        return float(self.of("refused").sum() / self.of("arrived").sum())

    def wait(self, quantile: float) -> float:
        """The mean wait of a step, of which this share of all answered pictures has at most as much."""
        waits, counts = self.of("wait"), self.of("answered")
        order = np.argsort(waits)
        reached = np.cumsum(counts[order]) / counts.sum()
        return float(waits[order][min(np.searchsorted(reached, quantile), len(waits) - 1)])

    def replica_hours(self) -> float:
        """Paid for: ready and starting ones."""
        return float(self.of("paid").sum() * self.step / 3600)

    def busy(self) -> float:
        """The mean share of the replicas' capacity that was used."""
        return float(self.of("answered").sum() / self.of("capacity").sum())


def steady_wait(busy: float, processes: int, seconds: float) -> float:
    """Mean seconds in front of ``processes`` that share a queue, when arrivals are random and the load is steady.

    Sakasegawa's formula; an answer takes ``seconds``.
    """
    busy = min(busy, _NEARLY_ALL)
    return busy ** (math.sqrt(2 * (processes + 1)) - 1) / (processes * (1 - busy)) * seconds * _REGULARITY


def simulate(
    rate: Callable[[float], float], seconds: float, replica: Replica, policy: Policy, *, begin: int, step: float = 1.0,
    deaths: Sequence[tuple[float, float]] = (), pooled: bool = False, seed: int = 0,
) -> Run:  # fmt: skip
    """Run the fleet.

    Args:
        rate: pictures a second at a time.
        begin: replicas that are ready at the beginning.
        deaths: at a time, the share of the ready replicas that die, besides those that die at random.
        pooled: whether a picture goes to the replica with the fewest, or to any.
    """
    random, run, scaler = np.random.default_rng(seed), Run(step), Autoscaler(policy, begin)
    ready, waiting, steady, starting = begin, 0.0, 0.0, deque[tuple[float, int]]()
    dying = deque(sorted(deaths))
    for now in np.arange(0.0, seconds, step):
        while starting and starting[0][0] <= now:
            ready += starting.popleft()[1]
        lost = _lost(random, ready, replica, step)
        while dying and dying[0][0] <= now:
            lost += round(ready * dying.popleft()[1])
        lost = min(lost, ready)
        ready -= lost  # what they had under way is asked again elsewhere, and goes on waiting there
        arrived = rate(float(now)) * step
        capacity = ready * replica.rate * step
        answered = min(waiting + arrived, capacity)
        left = waiting + arrived - answered
        room = ready * max(replica.room - replica.processes, 0)
        refused = max(left - room, 0.0)
        waiting = left - refused
        busy = answered / capacity if capacity else 1.0
        if busy < 1:  # else what waits is counted
            servers = replica.processes * (max(ready, 1) if pooled else 1)
            settles = replica.seconds / servers / (1 - math.sqrt(min(busy, _NEARLY_ALL))) ** 2
            steady += (steady_wait(busy, servers, replica.seconds) - steady) * min(step / settles, 1.0)
        wait = steady + (waiting * step / capacity if capacity else 0.0)
        under_way = answered / step * (replica.seconds + steady) + waiting
        wanted = scaler.see(float(now), under_way)
        there = ready + sum(number for _, number in starting)
        if wanted > there:
            starting.append((now + replica.start + _node_wait(there, wanted, replica), wanted - there))
        elif wanted < there:
            ready -= min(there - wanted, ready)
        run.add(
            arrived=arrived, answered=answered, refused=refused, capacity=capacity, ready=ready, wanted=wanted,
            under_way=under_way, wait=wait, lost=lost, paid=ready + sum(number for _, number in starting),
        )  # fmt: skip
    return run


def _lost(random: np.random.Generator, ready: int, replica: Replica, step: float) -> int:
    if replica.life is None or not ready:
        return 0
    nodes = math.ceil(ready / replica.a_node)
    return int(random.binomial(nodes, min(step / replica.life, 1.0))) * replica.a_node


def _node_wait(there: int, wanted: int, replica: Replica) -> float:
    """Seconds until there are nodes for the replicas that are missing: none where spare ones suffice."""
    missing = math.ceil(wanted / replica.a_node) - math.ceil(there / replica.a_node)
    return 0.0 if missing <= replica.spare else replica.node
