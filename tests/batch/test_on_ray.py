"""The driver on Ray hands out every shard, whichever worker is lost when. Ray itself is asked in tests/ray."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tritonvision.batch import on_ray
from tritonvision.batch.parts import Done
from tritonvision.errors import SetupError

WAITS = 100  # a driver that waits so often for nothing waits for ever


class Died(Exception):
    """Ray's error of a worker that is gone."""


class ScriptedRay:
    """As much of Ray as the driver asks; which calls have ended says the script.

    Args:
        script: is given the calls that have not ended, ``(worker, method, shard)`` by reference, whenever the driver
            waits, and gives what those that end now have ended with, by reference.
    """

    exceptions = SimpleNamespace(RayError=Died)

    def __init__(self, workers: int, script: Callable[[dict[int, tuple[int, str, int | None]]], dict[int, object]]):
        self._workers, self._script = workers, script
        self._made, self._waits = 0, 0
        self.open: dict[int, tuple[int, str, int | None]] = {}
        self._ended: dict[int, object] = {}

    def nodes(self):
        return [{"Alive": True}] * self._workers

    def remote(self, **_):
        return lambda _: SimpleNamespace(remote=self._worker)

    def wait(self, calls, num_returns=1, timeout=None):
        self._waits += 1
        assert self._waits < WAITS, f"nothing comes of {self.open}"
        ended = self._script(dict(self.open))
        for call in ended:
            del self.open[call]
        self._ended |= ended
        return [call for call in calls if call in self._ended], []

    def get(self, call):
        found = self._ended.pop(call)
        if isinstance(found, Exception):
            raise found
        return found

    def kill(self, worker, no_restart=True):
        """Nothing: the script knows no killed workers."""

    def _worker(self, *_):
        number, self._made = self._made, self._made + 1

        def method(name):
            def remote(shard=None, names=()):
                reference = len(self.open) + len(self._ended) + 1000 * self._waits + number
                while reference in self.open or reference in self._ended:
                    reference += 1
                self.open[reference] = number, name, shard
                return reference

            return SimpleNamespace(remote=remote, options=lambda **_: SimpleNamespace(remote=remote))

        return SimpleNamespace(start=method("start"), run=method("run"), stop=method("stop"))


class Plan:
    """Shards of one picture each."""

    def names(self, shard):
        return [f"{shard}.png"]


def answered(shards: int, workers: int, script) -> Counter:
    """How often each shard was reported."""
    ray, said = ScriptedRay(workers, script), list[Done]()
    folder = SimpleNamespace(address="")
    on_ray._Pool(ray, None, folder, Plan(), range(shards), None, on_ray.Cluster(workers=workers), said.append).run()
    return Counter(done.shard for done in said)


def done(method, shard):
    return Done(shard, {"ok": 1}) if method == "run" else None


def test_every_shard_is_answered_once():
    def script(calls):
        return {call: done(method, shard) for call, (_, method, shard) in calls.items()}

    assert answered(20, 3, script) == Counter(range(20))


def test_what_a_lost_worker_held_goes_to_one_that_had_nothing_left_to_do():
    """The first worker keeps its shards until the second is idle, dies, and there is no room to start it again."""
    lost = False

    def script(calls):
        nonlocal lost
        if not lost and {method for _, method, _ in calls.values()} == {"start"}:
            return dict.fromkeys(calls)
        others = {call: done(method, shard) for call, (worker, method, shard) in calls.items() if worker == 1}
        if lost or others:
            return others
        lost = True
        return dict.fromkeys(calls, Died())

    assert answered(7, 2, script) == Counter(range(7)) and lost


def test_a_shard_that_ends_its_worker_again_and_again_ends_the_batch():
    def script(calls):
        return {call: Died() if shard == 2 else done(method, shard) for call, (_, method, shard) in calls.items()}

    with pytest.raises(SetupError, match="again and again"):
        answered(4, 2, script)
