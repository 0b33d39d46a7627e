"""The search of ``tritonvision tune`` over measurements that are known: its choice is nearly that of trying all."""

import itertools

import numpy as np
import pytest

from tritonvision.exporters.variants.search import Look, choose, rounds, search

SPEEDS = {"onnxruntime-fp32": 1.0, "openvino-fp32": 1.15, "openvino-bf16": 1.8, "openvino-int8": 2.4}
CORES = 8


def surface(setting):
    """What a machine of eight cores truly does: more processes serve more, more threads answer a single one sooner."""
    variant, instances, threads, delay = setting
    single = 40 / SPEEDS[variant] / threads**0.7 + delay
    per_second = 1000 / (40 / SPEEDS[variant]) * min(instances * threads, CORES, 4 * threads) ** 0.9 / threads**0.15
    crowd = max(instances * threads - CORES, 0) / CORES
    per_second /= 1 + 0.5 * crowd
    p99 = single * (3 + 4 / instances)
    return per_second, single, p99


GRID = list(itertools.product(SPEEDS, (1, 2, 4, 8), (1, 2, 4, 8), (0, 1, 2)))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("p99", [None, 60.0, 25.0])
@pytest.mark.parametrize("noise", [0.0, 0.06])
def test_the_choice_is_within_five_percent_of_trying_all(seed, p99, noise):
    random = np.random.default_rng(seed)

    def measure(setting, seconds, rate):
        spread = noise / max(seconds, 0.05) ** 0.5 / 3
        rates, single, tail = (value * random.lognormal(0, spread) for value in surface(setting))
        return Look(rates, single, tail if rate is not None else None, seconds)

    order = [GRID[i] for i in random.permutation(len(GRID))]
    found = search(order, measure, 60.0, p99)
    true = {setting: Look(*surface(setting), 1.0) for setting in GRID}
    best = choose(true, p99)
    assert found.chosen is not None
    assert true[found.chosen].per_second >= 0.95 * true[best].per_second


def test_all_rounds_take_the_same_time_and_the_whole_takes_what_was_given():
    spent = []

    def measure(setting, seconds, rate):
        spent.append((seconds, rate))
        return Look(*surface(setting)[:2], None if rate is None else 1.0, seconds)

    search(GRID[:16], measure, 60.0)
    assert sum(seconds for seconds, _ in spent) == pytest.approx(60)
    assert rounds(16) == [16, 8, 4] and rounds(3) == [3] and rounds(5) == [5, 4]
    assert [seconds for seconds, _ in spent[:16]] == [pytest.approx(20 / 16)] * 16
    assert len(spent) == 16 + 8 + 2 * 4
    assert [rate is not None for _, rate in spent] == [False] * 16 + [True] * 16


def test_the_setting_of_today_is_looked_at_until_the_end():
    slow = ("onnxruntime-fp32", 1, 1, 2)
    found = search(GRID, lambda s, seconds, rate: Look(*surface(s), seconds), 10.0, keep=slow)
    assert slow in found.last and found.chosen != slow


def test_a_setting_that_cannot_run_is_not_chosen_and_stops_nothing():
    def measure(setting, seconds, rate):
        return None if setting[0] == "openvino-int8" else Look(*surface(setting), seconds)

    found = search(GRID, measure, 10.0)
    assert found.chosen[0] == "openvino-bf16" and not any(s[0] == "openvino-int8" for s in found.looks)


def test_between_settings_of_one_throughput_the_shorter_tail_decides_unless_a_bar_is_asked_for():
    looks = {
        "fast": Look(100.0, 10.0, 90.0, 1.0), "steady": Look(98.0, 10.0, 40.0, 1.0),
        "slow": Look(90.0, 10.0, 20.0, 1.0), "unknown": Look(99.0, 10.0, None, 1.0),
    }  # fmt: skip
    assert choose(looks, None) == "steady"
    assert choose(looks, 100.0) == "fast"


def test_where_none_meets_the_bar_none_is_chosen():
    found = search(GRID, lambda s, seconds, rate: Look(*surface(s), seconds), 10.0, p99=0.5)
    assert found.chosen is None and found.looks


def test_where_nothing_can_be_measured_none_is_chosen():
    found = search(GRID[:3], lambda s, seconds, rate: None, 10.0)
    assert found.chosen is None and found.looks == {} and found.last == ()
