"""Rows join and leave one batch: each says what it would say alone.

The decoder here is arithmetic that shows every mistake of padding, positions and order in its logits. The real one runs
in the tests of the families.
"""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from onnxruntime import OrtValue

from tritonvision.python_backend.generation.decoder import Decoder
from tritonvision.python_backend.generation.sampling import Sampler
from tritonvision.python_backend.generation.scheduler import CHUNK, Cancelled, Job, Scheduler

VOCABULARY, WIDTH = 97, 8
TABLE = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
HEAD = np.random.default_rng(1).normal(size=(WIDTH, VOCABULARY)).astype(np.float32)
GREEDY = {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "seed": None}


class Arithmetic:
    """A session whose keys are the embeddings, turned by their position; logits come from their masked mean."""

    def __init__(self, before_run=lambda: None):
        self.before_run = before_run
        self.batches = []

    def get_inputs(self):
        return [SimpleNamespace(name="past_key_values.0.key", shape=["b", 1, "p", WIDTH])]

    def get_outputs(self):
        return [SimpleNamespace(name="logits", shape=["b", VOCABULARY])]

    def run_with_ort_values(self, names, feeds):
        self.before_run()
        given = {name: value.numpy() for name, value in feeds.items()}
        embeds, mask = given["inputs_embeds"], given["attention_mask"]
        self.batches.append(len(embeds))
        turned = embeds * np.cos(given["position_ids"])[..., None].astype(np.float32)
        keys = np.concatenate([given["past_key_values.0.key"], turned[:, None]], axis=2)
        assert mask.shape == (len(embeds), keys.shape[2])
        weights = mask[:, None, :, None].astype(np.float32)
        mean = (keys * weights).sum((1, 2)) / weights.sum((1, 2))
        answers = [(mean + 0.3 * embeds[:, -1]) @ HEAD, keys.astype(np.float32)]
        # onnxruntime owns what a session answers, but not what it was made of here
        self.kept = [np.ascontiguousarray(value) for value in answers]
        return [OrtValue.ortvalue_from_numpy(value) for value in self.kept]


@pytest.fixture
def session():
    return Arithmetic()


@pytest.fixture
def scheduler(session):
    made = Scheduler(Decoder(session), lambda ids: TABLE[ids])
    yield made
    made.close()


class Told:
    """Collects what a job says."""

    def __init__(self, most, cancelled=lambda: False, at=lambda count: None):
        self.tokens, self.most, self.error, self.done = [], most, None, threading.Event()
        self.cancelled, self.at = cancelled, at

    def accept(self, token):
        self.tokens.append(token)
        self.at(len(self.tokens))
        if len(self.tokens) == self.most:
            self.done.set()
        return len(self.tokens) < self.most

    def failed(self, error):
        self.error = error
        self.done.set()

    def job(self, prompt, **settings):
        sampler = Sampler({**GREEDY, **settings}, np.array(prompt), VOCABULARY)
        return Job(TABLE[np.array(prompt)], sampler, self.accept, self.failed, self.cancelled)

    def wait(self):
        assert self.done.wait(20)
        return self.tokens


def prompts(count):
    rng = np.random.default_rng(5)
    return [rng.integers(0, VOCABULARY, length).tolist() for length in rng.integers(1, 40, count)]


def alone(scheduler, prompt, most, **settings):
    told = Told(most)
    scheduler.add(told.job(prompt, **settings))
    return told.wait()


def test_six_at_once_say_what_each_says_alone(scheduler, session):
    cases = [(prompt, 10 + 7 * i) for i, prompt in enumerate(prompts(6))]
    wanted = [alone(scheduler, *case) for case in cases]
    several = [Told(most) for _, most in cases]
    for told, (prompt, _) in zip(several, cases, strict=True):
        scheduler.add(told.job(prompt))
    assert [told.wait() for told in several] == wanted
    assert max(session.batches) == 6, "they were not one batch"
    assert len(set(wanted[-1])) >= 8, "an answer of few tokens proves nothing"


def test_a_prompt_longer_than_a_piece_reads_as_one(scheduler, session):
    prompt = np.random.default_rng(3).integers(0, VOCABULARY, 2 * CHUNK + 17).tolist()
    decoder = Decoder(Arithmetic())
    logits, _ = decoder(decoder.empty(), TABLE[np.array(prompt)][None])
    assert alone(scheduler, prompt, 1) == [int(logits[0].argmax())]
    assert len(session.batches) == 3


def test_the_others_go_on_while_a_long_prompt_is_read(scheduler):
    order = []
    short, long = Told(40, at=lambda n: order.append("short")), Told(1, at=lambda n: order.append("long"))
    scheduler.add(short.job([1, 2, 3]))
    scheduler.add(long.job([4] * (6 * CHUNK)))
    short.wait(), long.wait()
    assert "short" in order[: order.index("long")]


def test_seeded_draws_do_not_depend_on_the_neighbours(scheduler):
    wanted = alone(scheduler, [5, 6], 20, temperature=1.3, seed=11)
    first, second = Told(20), Told(20)
    scheduler.add(first.job([9, 9, 9], temperature=1.3, seed=12))
    scheduler.add(second.job([5, 6], temperature=1.3, seed=11))
    assert second.wait() == wanted
    first.wait()


def test_what_nobody_wants_stops_within_one_step(scheduler):
    gone = threading.Event()
    told = Told(10_000, cancelled=gone.is_set, at=lambda count: gone.set() if count == 5 else None)
    scheduler.add(told.job([1, 2]))
    told.wait()
    assert isinstance(told.error, Cancelled)
    assert len(told.tokens) <= 6


def test_a_waiting_prompt_that_nobody_wants_is_never_read(session):
    gate = threading.Event()
    session.before_run = lambda: gate.wait(20)
    scheduler = Scheduler(Decoder(session), lambda ids: TABLE[ids])
    running, gone = Told(3), Told(3, cancelled=lambda: True)
    scheduler.add(running.job([1]))
    scheduler.add(gone.job([2]))
    gate.set()
    running.wait(), gone.wait()
    scheduler.close()
    assert gone.tokens == [] and isinstance(gone.error, Cancelled)


def test_a_failing_step_is_told_to_all_in_it_and_the_next_answer_is_whole(scheduler, session):
    wanted = alone(scheduler, [3, 4], 10)

    def fail():
        raise ValueError("a step fails")

    told = Told(50, at=lambda count: setattr(session, "before_run", fail) if count == 3 else None)
    scheduler.add(told.job([1, 2]))
    told.wait()
    assert isinstance(told.error, ValueError)
    session.before_run = lambda: None
    assert alone(scheduler, [3, 4], 10) == wanted
