"""Successive halving: which of several settings serves best, found with short looks at all and longer ones at the best.

What a look measures is somebody else's: here are only the schedule, the rule and the choice.

The schedule. While there are more than four settings, a round looks once at each and leaves half of them; the last
round looks at each twice, the second time longer. All rounds take the same time. From the second look on there are
Poisson arrivals, too, whose rate follows from the first. A round visits the settings one after another, and each next
round in the opposite order, so that a machine that is busy for a while is so for different settings. Looks of all
rounds count together, by their length.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)

POISSON_LOAD = 0.7  # of the best throughput
P50_SHARE = 1.1  # of the best p50: what a single caller may wait where no p99 is asked for
_LAST = 4  # settings of the last round
_SECOND = 2 / 3  # share of the last round's time that its second looks get
_SLACK = 1.15  # of a bar, while looks are short
_TIE = 0.97  # of the highest throughput: what serves so much serves as much, and the shorter tail decides


@dataclass(frozen=True)
class Look:
    """What one look measured, or the mean of several.

    Attributes:
        per_second: answers, to several callers at once.
        p50: milliseconds of a single caller.
        p99: milliseconds under Poisson arrivals; None where these were not tried.
        seconds: it took.
    """

    per_second: float
    p50: float
    p99: float | None
    seconds: float


Measure = Callable[[S, float, float | None], Look | None]


@dataclass
class Found(Generic[S]):
    """What a search found.

    Attributes:
        looks: the mean of all looks at each setting that could be measured.
        last: the settings of the last round.
        rate: Poisson arrivals a second in the last round.
        chosen: the best setting, None where none meets the bar.
    """

    looks: dict[S, Look] = field(default_factory=dict)
    last: tuple[S, ...] = ()
    rate: float = 0.0
    chosen: S | None = None


def search(
    settings: Sequence[S], measure: Measure[S], seconds: float, p99: float | None = None, keep: S | None = None
) -> Found[S]:  # fmt: skip
    """Find the setting with the highest throughput that meets the bar.

    Args:
        measure: looks at a setting for so many seconds, all it has to do included, with so many Poisson arrivals a
            second (None: none); None where the setting cannot run.
        seconds: of the whole search.
        p99: the bar: milliseconds under Poisson arrivals at 70 % of the best throughput. None: a single caller's p50
            is within 10 % of the best, and the p99 decides between settings of nearly one throughput.
        keep: one of the settings that is looked at until the end, to compare with.
    """
    looks: dict[S, list[Look]] = {setting: [] for setting in settings}
    sizes = rounds(len(settings))
    left = list(settings)
    for _ in sizes[:-1]:
        _visit(left, looks, measure, seconds / len(sizes), _rate(looks))
        left = _survivors(left, means(looks), p99, keep)[::-1]
    first = (1 - _SECOND) * seconds / len(sizes)
    _visit(left, looks, measure, first, _rate(looks))
    left = [setting for setting in left[::-1] if looks[setting]]
    rate = _rate(looks)
    _visit(left, looks, measure, seconds / len(sizes) - first, rate)
    found = means(looks)
    last = {setting: found[setting] for setting in settings if setting in left and setting in found}
    return Found(found, tuple(last), rate or 0.0, choose(last, p99))


def rounds(count: int) -> list[int]:
    """How many settings each round of a search among ``count`` looks at."""
    sizes = [count]
    while sizes[-1] > _LAST:
        sizes.append(max(_LAST, -(-sizes[-1] // 2)))
    return sizes


def choose(looks: Mapping[S, Look], p99: float | None, slack: float = 1.0) -> S | None:
    """The setting with the highest throughput of those that meet the bar, ``slack`` times as wide; None of none.

    Where no p99 is asked for, that of those within 3 % of the highest throughput decides between them.
    """
    fitting = [setting for setting, fits in _fitting(looks, p99, slack).items() if fits]
    best = max(fitting, key=lambda setting: looks[setting].per_second, default=None)
    if best is None or p99 is not None:
        return best
    level = [setting for setting in fitting if looks[setting].per_second >= _TIE * looks[best].per_second]
    return min(level, key=lambda setting: (_tail(looks[setting]), -looks[setting].per_second))


def _tail(look: Look) -> float:
    return float("inf") if look.p99 is None else look.p99


def means(looks: Mapping[S, Sequence[Look]]) -> dict[S, Look]:
    """The mean of the looks at each setting, by their length; none of settings without."""
    return {setting: _mean(several) for setting, several in looks.items() if several}


def _mean(looks: Sequence[Look]) -> Look:
    tried = [look for look in looks if look.p99 is not None]
    return Look(
        _weighted(looks, [look.per_second for look in looks]),
        _weighted(looks, [look.p50 for look in looks]),
        _weighted(tried, [look.p99 or 0.0 for look in tried]) if tried else None,
        sum(look.seconds for look in looks),
    )


def _weighted(looks: Sequence[Look], values: Sequence[float]) -> float:
    """The mean of the values by the length of their looks."""
    seconds = [look.seconds for look in looks]
    return sum(value * share for value, share in zip(values, seconds, strict=True)) / sum(seconds)


def _fitting(looks: Mapping[S, Look], p99: float | None, slack: float) -> dict[S, bool]:
    if p99 is None:
        bar = P50_SHARE * slack * min((look.p50 for look in looks.values()), default=0.0)
        return {setting: look.p50 <= bar for setting, look in looks.items()}
    # Before arrivals were tried: what a single caller waits is the least that a p99 can be.
    return {s: (look.p50 if look.p99 is None else look.p99) <= slack * p99 for s, look in looks.items()}


def _rate(looks: Mapping[S, Sequence[Look]]) -> float | None:
    """Poisson arrivals a second that fit what is known by now; None before anything is."""
    best = max((look.per_second for look in means(looks).values()), default=None)
    return None if best is None else POISSON_LOAD * best


def _visit(
    settings: Sequence[S], looks: dict[S, list[Look]], measure: Measure[S], seconds: float, rate: float | None
) -> None:  # fmt: skip
    """One look at each, ``seconds`` together. One that cannot run is not looked at again."""
    for setting in settings:
        look = measure(setting, seconds / len(settings), rate)
        if look is None:
            looks[setting].clear()
        else:
            looks[setting].append(look)


def _survivors(settings: Sequence[S], looks: Mapping[S, Look], p99: float | None, keep: S | None) -> list[S]:
    """The better half: those that meet the bar by their throughput, then the others; always the quickest, whose p50 is
    the bar of the others, and ``keep``. While no p99 is known that is asked for, a setting comes the sooner, the fewer
    others serve both several callers and a single one better.
    """
    here = {setting: looks[setting] for setting in settings if setting in looks}
    fits = _fitting(here, p99, _SLACK)
    unknown = p99 is not None and all(look.p99 is None for look in here.values())
    behind = {setting: _behind(look, here.values()) if unknown else 0 for setting, look in here.items()}
    ranked = sorted(here, key=lambda s: (not fits[s], behind[s], -here[s].per_second))
    always = {min(here, key=lambda setting: here[setting].p50)} if here else set()
    always |= {keep} if keep is not None and keep in here else set()
    room = max(_LAST, -(-len(settings) // 2)) - len(always)
    best = [setting for setting in ranked if setting not in always][: max(room, 0)]
    return [setting for setting in settings if setting in always or setting in best]


def _behind(look: Look, others: Iterable[Look]) -> int:
    return sum(other.per_second > look.per_second and other.p50 < look.p50 for other in others)
