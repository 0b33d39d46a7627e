"""The model of a fleet: nothing is lost in it, queues are as theory has them, and the autoscaler keeps its bounds."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from fleet_model import Autoscaler, Policy, Replica, simulate, steady_wait

REPLICA = Replica(20.0, start=5.0)


def test_every_picture_is_answered_or_refused_or_still_waits():
    run = simulate(lambda now: 300 + 200 * np.sin(now / 50), 600, REPLICA, Policy(2.0, most=20), begin=5, seed=3)
    rest = run.of("arrived").sum() - run.of("answered").sum() - run.of("refused").sum()
    assert 0 <= rest <= run.of("ready")[-1] * REPLICA.room
    assert run.refused() > 0 and (run.of("answered") <= run.of("capacity") + 1e-9).all()


@pytest.mark.parametrize(("busy", "processes"), [(0.5, 1), (0.8, 1), (0.7, 2), (0.9, 2), (0.9, 8)])
def test_the_wait_of_a_steady_load_is_that_of_a_queue_that_is_played_through(busy, processes):
    random, seconds, count = np.random.default_rng(0), 0.1, 60_000
    arrivals = np.cumsum(random.exponential(seconds / (processes * busy), count))
    took = random.normal(seconds, seconds * np.sqrt(0.1), count).clip(0.01)
    free, waited = [0.0] * processes, 0.0
    for at, long in zip(arrivals, took, strict=True):
        first = min(range(processes), key=free.__getitem__)
        waited += max(free[first] - at, 0.0)
        free[first] = max(free[first], at) + long
    assert steady_wait(busy, processes, seconds) == pytest.approx(waited / count, rel=0.2)


def test_the_autoscaler_follows_the_pictures_under_way_within_its_bounds():
    policy = Policy(2.0, period=15, delay=0, hold=60, fewer=0.5, fewer_period=15, least=2, most=30)
    scaler, wanted = Autoscaler(policy, 4), []
    for second in range(600):
        wanted.append(scaler.see(second, 100.0 if second < 200 else 1.0))
    assert max(wanted) == 30 and wanted[-1] == 2
    grown = [now / before for before, now in zip(wanted, wanted[1:], strict=False)]
    assert max(grown) <= 2.0 and min(grown) >= 0.5
    assert wanted[200:255] == [30] * 55, "it keeps the highest for a while"


def test_headroom_is_what_a_wave_is_answered_from():
    def wave(now: float) -> float:
        return 400 if now < 600 else 700

    waits = [
        simulate(wave, 1200, REPLICA, Policy(target, most=200), begin=round(400 / 20 / busy)).wait(1.0)
        for target, busy in ((6.0, 0.97), (1.2, 0.6))
    ]
    assert waits[0] > 4 * waits[1]


def test_a_fleet_that_loses_a_third_comes_back():
    run = simulate(lambda _: 400, 1800, REPLICA, Policy(1.2, most=200), begin=34, deaths=[(600, 1 / 3)])
    ready = run.of("ready")
    assert ready[601] < 0.7 * ready[599] and ready[-1] >= 0.9 * ready[599]
