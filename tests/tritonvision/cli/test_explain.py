"""explain: the parts of a request add up to what its caller waited, and each part goes where it belongs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tritonvision.cli import explain as command
from tritonvision.cli.explain import Part, _parts, _Snapshot
from tritonvision.engine.model_times import ModelTimes

NOTHING = ModelTimes("", 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)


def times(model: str, requests: int, infer: float, **more) -> ModelTimes:
    total = more.pop("total", infer + more.get("queue", 0.0))
    return replace(NOTHING, model=model, samples=requests, executions=requests, requests=requests, infer=infer,
                   total=total, **more)  # fmt: skip


def test_the_parts_of_an_ensemble_add_up():
    chain = {
        one.model: one
        for one in (
            times("m", 10, 0.8, total=1.0), times("post--classes", 10, 0.1), times("net--m", 10, 0.5, queue=0.1),
            times("pre--crop", 10, 0.2),
        )
    }  # fmt: skip
    steps = ["pre--crop", "post--classes", "net--m"]
    before = _Snapshot(0.5, 0.25, ["m"], steps, {name: replace(NOTHING, model=name) for name in chain})
    parts = _parts(before, _Snapshot(2.5, 1.75, ["m"], steps, chain), 0.3, 10)
    found = {(part.place, part.what): round(part.milliseconds, 6) for part in parts}
    assert found == {
        ("client", "HTTP, base64 and JSON"): 100, ("facade", "request read, answer written"): 50,
        ("engine", "queue, way to Triton and back"): 50, ("pre--crop", "infer"): 20, ("net--m", "queue"): 10,
        ("net--m", "infer"): 50, ("post--classes", "infer"): 10, ("m", "between its steps"): 10,
    }  # fmt: skip
    assert [part.place for part in parts][3:] == ["pre--crop", "net--m", "net--m", "post--classes", "m"]
    assert sum(part.milliseconds for part in parts) == pytest.approx(300)


def test_a_composition_is_told_without_what_it_asks():
    asked = {one.model: one for one in (times("gaze", 4, 1.0), times("net--gaze", 4, 0.6), times("face", 4, 0.2))}
    before = _Snapshot(0, 0, ["gaze"], ["net--gaze"], {})
    parts = _parts(before, _Snapshot(1.2, 1.1, ["gaze"], ["net--gaze"], asked), 0.3, 4)
    found = {(part.place, part.what): round(part.milliseconds, 6) for part in parts}
    assert (found[("gaze", "infer")], found[("face", "all of it")], found[("net--gaze", "infer")]) == (50, 50, 150)
    assert sum(part.milliseconds for part in parts) == pytest.approx(300)


def test_what_came_before_does_not_count():
    before, after = times("net--m", 7, 1.0), replace(times("net--m", 17, 3.0), samples=27, executions=12)
    since = after.since(before)
    assert (since.requests, since.infer, since.batch) == (10, 2.0, 20 / 5)
    assert after.since(times("net--m", 99, 9.0)) == after, "it was loaded anew meanwhile"
    assert replace(NOTHING, model="m").batch == 0.0


def test_the_table_has_a_line_for_each_part(capsys):
    parts = [Part("client", "HTTP", 1.0), Part("net--m", "infer", 3.0, 1.5), Part("net--m", "output", 0.0, 1.5)]
    command._print("m", parts, 10, 2)
    lines = capsys.readouterr().out.splitlines()
    assert "4.0 ms a request (10 requests, 2 at once)" in lines[0]
    assert lines[2].split()[:4] == ["client", "HTTP", "1.00", "25%"]
    assert lines[3].split()[:5] == ["net--m", "infer", "3.00", "75%", "1.5"]
    assert lines[4].split()[0] == "output", "a place is named once"
