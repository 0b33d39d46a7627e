"""The stages of a request are noted in whatever task works for it, and are bounded."""

from __future__ import annotations

import asyncio
import time

import pytest

from tritonvision import stages
from tritonvision.stages import MOST, Stage, Timeline, kind_of, measured, stage


def test_tasks_begun_for_a_request_note_their_stages_in_its_timeline_and_others_do_not():
    async def work(name: str) -> None:
        with stage(name):
            await asyncio.sleep(0)

    async def main() -> tuple[Timeline, Timeline]:
        one, other = Timeline(), Timeline()
        with measured(one):
            await asyncio.gather(work("queue"), work("triton"))
        with measured(other):
            await asyncio.create_task(work("decode"))
        await work("of nobody")
        assert stages.current() is None
        return one, other

    one, other = asyncio.run(main())
    assert sorted(found.name for found in one.stages) == ["queue", "triton"]
    assert [found.name for found in other.stages] == ["decode"]


def test_a_stage_that_fails_is_noted_too():
    timeline = Timeline()
    with measured(timeline), pytest.raises(ValueError), stage("decode"):
        raise ValueError
    assert [found.name for found in timeline.stages] == ["decode"]


def test_seconds_of_a_name_are_those_of_all_its_stages_with_what_they_consist_of():
    timeline = Timeline()
    parts = Stage("pre", 0, 10**9, "pre--square-128"), Stage("post", 2 * 10**9, 3 * 10**9, "post--keypoints")
    timeline.add("triton", 1, 4 * 10**9 + 1, parts=parts)
    timeline.add("triton", 1, 10**9 + 1)
    assert timeline.seconds() == {"triton": 5.0, "pre": 1.0, "post": 1.0}
    assert [found.name for found in timeline.each()] == ["triton", "pre", "post", "triton"]


def test_a_request_with_thousands_of_stages_keeps_the_first_ones():
    timeline = Timeline()
    for _ in range(10_000):
        timeline.add("triton", time.monotonic_ns())
    assert len(timeline.stages) == MOST


@pytest.mark.parametrize("model, kind", [
    ("pre--square-128", "pre"), ("tokens--clip__RN50", "pre"), ("net--resnet18", "network"),
    ("net--sam-vit_b--encoder", "network"), ("post--dense-boxes", "post"), ("sam-vit_b", "model"),
    ("team__faces__1--text", "model"),
])  # fmt: skip
def test_a_triton_model_does_what_its_name_says(model, kind):
    assert kind_of(model) == kind
