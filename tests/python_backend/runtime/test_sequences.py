"""What a process remembers between two requests of a sequence."""

import numpy as np
import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.runtime.sequences import SEQUENCE_END, SEQUENCE_ID, SEQUENCE_START, Sequences


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def sequences(clock):
    return Sequences(list, most=2, idle_seconds=10, clock=clock)


def request(number, start=False, end=False):
    values = {SEQUENCE_ID: np.uint64([[number]]), SEQUENCE_START: np.int32([[start]]), SEQUENCE_END: np.int32([[end]])}
    return {"image": np.zeros((1, 1)), **values}


def test_requests_of_one_sequence_share_a_state_and_others_have_their_own(sequences):
    first = sequences.of(request(1, start=True))
    assert sequences.of(request(2, start=True)) is not first
    assert sequences.of(request(1)) is first


def test_a_sequence_that_begins_again_begins_empty(sequences):
    sequences.of(request(1, start=True)).append("a frame")
    assert sequences.of(request(1, start=True)) == []


def test_the_last_request_of_a_sequence_ends_it(sequences):
    sequences.of(request(1, start=True))
    sequences.end(request(1))
    assert len(sequences) == 1
    sequences.end(request(1, end=True))
    assert len(sequences) == 0
    with pytest.raises(InvalidParameter, match="The sequence 1 is not known here"):
        sequences.of(request(1))


def test_a_sequence_that_idled_too_long_is_forgotten(sequences, clock):
    sequences.of(request(1, start=True))
    clock.now = 9
    sequences.of(request(1))
    clock.now = 19
    sequences.of(request(1))
    clock.now = 29.1
    with pytest.raises(InvalidParameter):
        sequences.of(request(1))


def test_no_more_than_the_stated_number_is_kept_and_the_least_used_goes(sequences):
    sequences.of(request(1, start=True))
    sequences.of(request(2, start=True))
    sequences.of(request(1))
    sequences.of(request(3, start=True))
    sequences.of(request(1))
    with pytest.raises(InvalidParameter):
        sequences.of(request(2))
