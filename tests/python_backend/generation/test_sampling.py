"""Next tokens; that the probabilities are those of transformers is tested beside it, in the export environment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.python_backend.generation.sampling import Sampler

GREEDY = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": None}
NO_PROMPT = np.zeros(0, dtype=np.int64)


def sampler(vocabulary=50, prompt=NO_PROMPT, **settings):
    return Sampler({**GREEDY, **settings}, prompt, vocabulary)


def logits(seed=0, vocabulary=50, scale=3.0):
    return (np.random.default_rng(seed).normal(size=vocabulary) * scale).astype(np.float32)


def test_without_temperature_the_likeliest_token_is_taken():
    assert sampler()(logits()) == logits().argmax()


def test_the_same_seed_says_the_same_and_another_one_something_else():
    def run(seed):
        choose = sampler(temperature=1.5, seed=seed)
        return [choose(logits(i)) for i in range(30)]

    assert run(7) == run(7)
    assert run(7) != run(8)


def test_draws_follow_the_probabilities():
    choose = sampler(vocabulary=4, temperature=1.0, seed=0)
    wanted = np.array([0.1, 0.2, 0.3, 0.4])
    counts = np.bincount([choose(np.log(wanted).astype(np.float32)) for _ in range(20_000)], minlength=4)
    assert np.abs(counts / 20_000 - wanted).max() < 0.015


@given(st.integers(1, 50), st.integers(0, 1000))
def test_top_k_keeps_the_k_likeliest(k, seed):
    tokens, probabilities = sampler(temperature=1.0, top_k=k).distribution(logits(seed))
    assert set(tokens) == set(np.argsort(-logits(seed))[:k])
    assert probabilities.sum() == pytest.approx(1)


@given(st.floats(0.0, 1.0), st.integers(0, 1000), st.sampled_from([3, 50, 5000]))
def test_top_p_keeps_the_smallest_set_that_holds_p(p, seed, vocabulary):
    values = logits(seed, vocabulary, scale=0.5)
    tokens, _ = sampler(vocabulary, temperature=1.0, top_p=p).distribution(values)
    every = np.exp(values.astype(np.float64))
    every /= every.sum()
    held = every[tokens].sum()
    assert len(tokens) >= 1
    assert held >= p - 1e-9
    if len(tokens) > 1:
        assert held - every[tokens].min() < p


def test_the_penalty_reaches_tokens_of_the_prompt_and_of_the_answer():
    values = np.array([2.0, 1.9, 1.8, -5.0], dtype=np.float32)
    choose = sampler(4, np.array([0]), repetition_penalty=1.5)
    assert [choose(values), choose(values), choose(values)] == [1, 2, 0]


def test_ids_of_the_prompt_outside_the_vocabulary_are_no_error():
    assert sampler(4, np.array([-1, 99]), repetition_penalty=1.5)(np.array([0, 1, 0, 0], np.float32)) == 1
