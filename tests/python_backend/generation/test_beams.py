"""Searches over decoders small enough to try every answer; transformers' own are compared in tests/exporters."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import TritonVisionError
from tritonvision.python_backend.generation.beams import Decoder, Search, search

START, END = 0, 1


class Writer:
    """A decoder whose logits are drawn anew for every sequence it may have written; keeps the sequences as rows."""

    def __init__(self, vocabulary, seed):
        self.vocabulary, self.seed = vocabulary, seed
        self.rows = None
        self.steps = 0

    def logits(self, written):
        rng = np.random.default_rng([self.seed, *written])
        return rng.normal(size=self.vocabulary).astype(np.float32)

    def __call__(self, ids, origins):
        before = [()] if self.rows is None else self.rows
        self.rows = [(*before[origin], int(id)) for id, origin in zip(ids, origins, strict=True)]
        self.steps += 1
        return np.stack([self.logits(row) for row in self.rows])


def probabilities(logits):
    return logits - np.log(np.exp(logits.astype(np.float64)).sum())


def every_answer(writer, most):
    """All answers that end or are of ``most`` tokens, with their log probabilities."""
    found = {}
    for length in range(1, most + 1):
        for ids in itertools.product(range(writer.vocabulary), repeat=length):
            if END in ids[:-1] or (ids[-1] != END and length < most):
                continue
            found[ids] = sum(probabilities(writer.logits((START, *ids[:i])))[id] for i, id in enumerate(ids))
    return found


def test_greedy_takes_the_likeliest_token_and_stops_after_the_end():
    writer = Writer(12, seed=5)
    ids = search(writer, Search(START, (END,), most=40)).tolist()
    for i, id in enumerate(ids):
        assert id == writer.logits((START, *ids[:i])).argmax()
    assert END not in ids[:-1] and (ids[-1] == END or len(ids) == 40)
    assert writer.steps == len(ids)


def test_an_answer_has_no_more_tokens_than_asked_for():
    for beams, most in itertools.product((1, 2, 5), (1, 2, 7)):
        ids = search(Writer(30, seed=3), Search(START, (), most, beams))
        assert len(ids) == most and ids.dtype == np.int64


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_beams_enough_for_everything_find_the_best_answer_there_is(seed, most, penalty):
    writer = Writer(4, seed)
    search_settings = Search(START, (END,), most, beams=81, length_penalty=penalty, early_stopping="never")
    scores = {ids: score / len(ids) ** penalty for ids, score in every_answer(writer, most).items()}
    got = tuple(search(writer, search_settings).tolist())
    assert scores[got] == pytest.approx(max(scores.values()), abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_tokens_in_a_row_occur_twice(beams, size):
    search_settings = Search(START, (), most=14, beams=beams, no_repeat=size)
    for seed in range(10):
        writer = Writer(16, seed)
        writer.logits = lambda written: np.linspace(1, 0, 16, dtype=np.float32)  # it would repeat itself forever
        ids = [START, *search(writer, search_settings).tolist()]
        runs = [tuple(ids[i : i + size]) for i in range(len(ids) + 1 - size)]
        assert len(runs) == len(set(runs))


@pytest.mark.parametrize("beams", [1, 4])
def test_first_and_last_token_may_be_given(beams):
    search_settings = Search(START, (END,), most=5, beams=beams, first=7, last=(END,), early_stopping=True)
    ids = search(Writer(20, seed=1), search_settings).tolist()
    assert ids[0] == 7 and ids[-1] == END


def test_of_several_ends_any_ends_the_answer():
    ends = (1, 2, 3, 4, 5)
    lengths = set()
    for seed in range(20):
        for beams in (1, 3):
            ids = search(Writer(10, seed), Search(START, ends, most=12, beams=beams)).tolist()
            assert not set(ids[:-1]) & set(ends)
            lengths.add(len(ids))
    assert len(lengths) > 2


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_not_numbers_are_an_error_and_no_text(beams):
    writer = Writer(10, seed=1)
    writer.logits = lambda written: np.full(10, np.nan if len(written) > 3 else 0.0, np.float32)
    with pytest.raises(TritonVisionError, match="not numbers"):
        search(writer, Search(START, (), most=12, beams=beams))


class Network:
    """The network ``decoder``: its cache holds the tokens themselves, its logits are those of :class:`Writer`."""

    def __init__(self, writer):
        self.writer = writer
        self.crosses = []

    def __call__(self, role, inputs, outputs):
        assert role == "decoder"
        key, value = (inputs[f"past_key_values.0.{part}"] for part in ("key", "value"))
        assert len(key) == len(inputs["input_ids"])
        self.crosses.append(inputs["cross.0.key"])
        new = inputs["input_ids"][:, None, :, None].astype(np.float32)
        present = np.concatenate([key, new], axis=2)
        logits = np.stack([self.writer.logits(tuple(row[0, :, 0].astype(int))) for row in present])
        found = {
            "logits": logits, "present.0.key": present, "present.0.value": np.concatenate([value, -new], axis=2),
        }  # fmt: skip
        assert set(outputs) == set(found)
        return found


@pytest.mark.parametrize("beams", [1, 2, 5])
@pytest.mark.parametrize("seed", range(6))
def test_the_cache_follows_the_beams(beams, seed):
    search_settings = Search(START, (END,), most=9, beams=beams)
    cross = {f"cross.0.{part}": np.zeros((1, 1, 4, 1), np.float32) for part in ("key", "value")}
    network = Network(Writer(9, seed))
    got, wanted = (search(step, search_settings) for step in (Decoder(network, cross), Writer(9, seed)))
    np.testing.assert_array_equal(got, wanted)
    # what the encoder gave is never copied, however many beams read it
    assert all(seen is cross["cross.0.key"] for seen in network.crosses)
