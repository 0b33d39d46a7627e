"""A call of Triton is a stage of its request, with what the steps told of it as its parts."""

from __future__ import annotations

import pytest

from tritonvision.engine.step_times import PieceTimes, StepTimes
from tritonvision.stages import MOST, Timeline, measured


class Told:
    """What steps write, given piece by piece as a pipe gives it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@pytest.fixture
def told():
    return Told()


def test_the_parts_of_a_call_are_those_of_its_id_in_the_order_of_their_beginning(told):
    times, timeline = StepTimes(told.read), Timeline()
    with measured(timeline), times.call() as one:
        with times.call() as other:
            lines = [f"{one} post--x 30 40", f"{other} net--y 1 2", f"{one} pre--x 10 20", "tvnobody net--z 1 2", ""]
            told.pieces.append("\n".join(lines).encode())
    second, first = timeline.stages
    assert [(part.name, part.model) for part in first.parts] == [("pre", "pre--x"), ("post", "post--x")]
    assert [part.model for part in second.parts] == ["net--y"]
    assert {stage.name for stage in timeline.stages} == {"triton"}


def test_a_line_that_comes_in_two_reads_is_one(told):
    times, timeline = StepTimes(told.read), Timeline()
    with measured(timeline), times.call() as one:
        line = f"{one} net--y 1 2\n".encode()
        told.pieces.append(line[:-5])
        with times.call():
            pass
        told.pieces.append(line[-5:])
    assert [part.model for part in timeline.stages[-1].parts] == ["net--y"]


def test_where_nobody_measures_a_request_has_no_id_and_nothing_is_read(told):
    def never() -> bytes:
        raise AssertionError

    with StepTimes(never).call() as request_id:
        assert request_id == ""


def test_a_call_with_thousands_of_parts_keeps_the_first_ones(told):
    times, timeline = StepTimes(told.read), Timeline()
    with measured(timeline), times.call() as one:
        told.pieces.append(f"{one} net--y 1 2\n".encode() * 5000)
    assert len(timeline.stages[0].parts) == MOST


def test_a_call_that_fails_is_a_stage_too_and_leaves_nothing_behind(told):
    times, timeline = StepTimes(told.read), Timeline()
    with measured(timeline), pytest.raises(OSError), times.call():
        raise OSError
    assert [stage.name for stage in timeline.stages] == ["triton"] and times._open == {}


def test_an_answer_in_pieces_is_a_prompt_and_a_generation():
    timeline = Timeline()
    with measured(timeline):
        times = PieceTimes()
    times.piece()
    times.piece()
    times.end()
    (stage,) = timeline.stages
    prompt, generation = stage.parts
    assert (prompt.name, generation.name) == ("prompt", "generation")
    assert stage.began == prompt.began and prompt.ended == generation.began and generation.ended == stage.ended
