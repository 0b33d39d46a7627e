"""Rows join and leave one batch: each says what it would say alone.

The decoder here is arithmetic that shows every mistake of padding, positions and order in its logits. The real one runs
in the tests of the families.
"""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from onnxruntime import OrtValue

from tritonvision.errors import InvalidParameter, ServerUnavailable, TritonVisionError
from tritonvision.python_backend.generation.decoder import Cache, Decoder, Piece
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
    """Collects what a job says, and how often it ends."""

    def __init__(self, most, cancelled=lambda: False, at=lambda count: None):
        self.tokens, self.most, self.error, self.done, self.ends = [], most, None, threading.Event(), 0
        self.cancelled, self.at = cancelled, at

    def accept(self, token):
        self.tokens.append(token)
        self.at(len(self.tokens))
        if len(self.tokens) == self.most:
            self.ends += 1
            self.done.set()
        return len(self.tokens) < self.most

    def failed(self, error):
        self.error = error
        self.ends += 1
        self.done.set()

    def job(self, prompt, **settings):
        sampler, most = Sampler({**GREEDY, **settings}, np.array(prompt), VOCABULARY), len(prompt) + self.most
        piece = Piece(TABLE[np.array(prompt)][None])
        return Job(piece, sampler, self.accept, self.failed, self.cancelled, most=most)

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
    several, added = [Told(most) for _, most in cases], threading.Event()
    session.before_run = lambda: added.wait(20)
    for told, (prompt, _) in zip(several, cases, strict=True):
        scheduler.add(told.job(prompt))
    added.set()
    assert [told.wait() for told in several] == wanted
    assert max(session.batches) == 6, "they were not one batch"
    assert len(set(wanted[-1])) >= 8, "an answer of few tokens proves nothing"


def test_a_prompt_longer_than_a_piece_reads_as_one(scheduler, session):
    prompt = np.random.default_rng(3).integers(0, VOCABULARY, 2 * CHUNK + 17).tolist()
    decoder = Decoder(Arithmetic())
    logits, _ = decoder(decoder.empty(), Piece(TABLE[np.array(prompt)][None]))
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


def test_a_prompt_that_fails_at_its_first_piece_is_told_so_and_stops_nobody(scheduler, session):
    wanted = alone(scheduler, [3, 4], 30)
    neighbour, bad = Told(30), Told(3)
    scheduler.add(neighbour.job([3, 4]))
    job = bad.job([1, 2])
    job._prompt = Piece(job._prompt.embeds[..., :5])  # too narrow for the network: this prompt's fault alone
    scheduler.add(job)
    bad.wait()
    assert bad.error is not None and bad.tokens == []
    assert neighbour.wait() == wanted and neighbour.error is None
    assert alone(scheduler, [3, 4], 30) == wanted


@pytest.mark.parametrize("count", [1, 3])
def test_a_caller_that_cannot_be_told_ends_its_own_answer_only(scheduler, count):
    wanted = alone(scheduler, [5, 6], 60)
    neighbour = Told(60)

    def gone(n):
        if n == count:
            raise RuntimeError("the sender is gone")

    failing = Told(30, at=gone)
    scheduler.add(neighbour.job([5, 6]))
    scheduler.add(failing.job([1, 2]))
    assert len(failing.wait()) == count and isinstance(failing.error, RuntimeError)
    assert neighbour.wait() == wanted and neighbour.error is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_an_error_and_no_token(scheduler, session, temperature):
    run = session.run_with_ort_values

    def nan(names, feeds):
        _, keys = run(names, feeds)
        session.nan = np.full((len(keys.numpy()), VOCABULARY), np.nan, np.float32)
        return [OrtValue.ortvalue_from_numpy(session.nan), keys]

    session.run_with_ort_values = nan
    told = Told(3)
    scheduler.add(told.job([1, 2], temperature=temperature, seed=1))
    assert told.wait() == [] and isinstance(told.error, TritonVisionError)


def test_a_prefix_that_attends_both_ways_is_read_in_one_piece():
    pieces = []

    def decoder(cache, piece):
        pieces.append((piece.embeds.shape[1], piece.bidirectional))
        return real(cache, replace(piece, bidirectional=0, position_ids=None, extra={}))

    real = Decoder(Arithmetic())
    decoder.empty = real.empty
    scheduler = Scheduler(decoder, lambda ids: TABLE[ids])
    told, length = Told(2), 3 * CHUNK + 10
    rows = TABLE[np.arange(length) % VOCABULARY][None]
    positions = np.arange(3 * length).reshape(3, 1, length)
    job = told.job([1])
    job._prompt = Piece(rows, positions, {"deepstack.0": rows}, 2 * CHUNK + 1)
    seen, next_piece = [], job.next_piece
    job.next_piece = lambda: seen.append(next_piece()) or seen[-1]
    scheduler.add(job)
    told.wait()
    scheduler.close()
    assert pieces == [(2 * CHUNK + 1, 2 * CHUNK + 1), (CHUNK, 0), (9, 0), (1, 0)]
    np.testing.assert_array_equal(np.concatenate([piece.position_ids for piece in seen], axis=2), positions)
    np.testing.assert_array_equal(np.concatenate([piece.extra["deepstack.0"] for piece in seen], axis=1), rows)


def no_room(*_):
    raise MemoryError("no room")


def test_a_row_that_the_batch_has_no_room_for_fails_alone(scheduler, monkeypatch):
    wanted = alone(scheduler, [3, 4], 60)
    added = threading.Event()
    running, late = Told(60, at=lambda count: added.wait(20)), Told(3)
    scheduler.add(running.job([3, 4]))
    with monkeypatch.context() as patch:
        patch.setattr(Cache, "joined", no_room)
        scheduler.add(late.job([1, 2]))
        added.set()
        assert len(late.wait()) == 1 and isinstance(late.error, MemoryError)
        assert running.wait() == wanted and running.error is None


def test_answers_run_together_as_far_as_there_is_room_and_the_others_wait(session):
    token = 4 * WIDTH  # bytes of its keys; a step has them twice, and once more as long as it is not read
    scheduler = Scheduler(Decoder(session), lambda ids: TABLE[ids], room=2 * 3 * 20 * token + 3 * 2 * token)
    try:
        wanted = [alone(scheduler, [n, 4], 18) for n in range(5)]
        session.batches.clear()
        together = [Told(18) for _ in range(5)]
        for n, told in enumerate(together):
            scheduler.add(told.job([n, 4]))
        assert [told.wait() for told in together] == wanted and max(session.batches) == 3
        session.batches.clear()
        long, short = Told(30), Told(3)
        scheduler.add(long.job([1, 2]))  # there is no room for two rows as long as it
        scheduler.add(short.job([3, 4]))
        assert len(long.wait()) == 30 and len(short.wait()) == 3 and max(session.batches) == 1
        scheduler.check(30, 33)
        with pytest.raises(InvalidParameter, match="A prompt of 30 tokens and an answer of up to 34 take"):
            scheduler.check(30, 34)
    finally:
        scheduler.close()


def test_rows_whose_cache_cannot_be_made_smaller_fail_and_the_next_answer_is_whole(scheduler, monkeypatch):
    wanted = alone(scheduler, [3, 4], 10)
    added = threading.Event()
    short, long = Told(3, at=lambda count: added.wait(20)), Told(10_000)
    with monkeypatch.context() as patch:
        patch.setattr(Cache, "only", no_room)
        scheduler.add(short.job([1, 2]))
        scheduler.add(long.job([5, 6]))
        added.set()
        assert len(short.wait()) == 3 and short.error is None
        long.wait()
    assert isinstance(long.error, MemoryError)
    assert alone(scheduler, [3, 4], 10) == wanted


def test_closing_ends_what_runs_and_what_waits(session):
    turn, go_on = threading.Event(), threading.Event()
    session.before_run = lambda: (turn.set(), go_on.wait(20))
    scheduler = Scheduler(Decoder(session), lambda ids: TABLE[ids])
    running, waiting, late = Told(10_000), Told(3), Told(3)
    scheduler.add(running.job([1]))
    scheduler.add(waiting.job([2]))
    assert turn.wait(20)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    go_on.set()
    closing.join(20)
    scheduler.add(late.job([3]))
    for told in (running, waiting, late):
        told.wait()
        assert isinstance(told.error, ServerUnavailable) and told.ends == 1


FAULTS = ("none", "sampler", "accept", "cancelled", "cancels", "failed", "width")


class Faulty(Told):
    """A job in which ``fault`` happens at its ``when``-th token, or question whether it was cancelled."""

    def __init__(self, fault, when, most):
        super().__init__(most, self.ask, self.take)
        self.fault, self.when, self.asked = fault, when, 0

    def ask(self):
        self.asked += 1
        if self.fault == "cancelled" and self.asked >= self.when:
            raise RuntimeError("whether it was cancelled cannot be told")
        return self.fault == "cancels" and self.asked >= self.when

    def take(self, count):
        if self.fault in ("accept", "failed") and count == self.when:
            raise RuntimeError("the piece cannot be sent")

    def failed(self, error):
        super().failed(error)
        if self.fault == "failed":
            raise RuntimeError("the error cannot be sent either")

    def job(self, prompt, **settings):
        made = super().job(prompt, **settings)
        if self.fault == "width":
            made._prompt = Piece(made._prompt.embeds[..., :5])
        if self.fault == "sampler":
            choose, tokens = made._sampler, self.tokens
            made._sampler = lambda logits: choose(logits if len(tokens) + 1 < self.when else logits[:, None, None])
        return made


@examples(max_examples=60, deadline=None)
@given(
    jobs=st.lists(st.tuples(st.sampled_from(FAULTS), st.integers(1, 6), st.integers(1, 9)), min_size=1, max_size=6),
    runs=st.sets(st.integers(0, 12), max_size=2),
    embeds=st.sets(st.integers(0, 12), max_size=1),
)
def test_wherever_something_fails_every_job_has_exactly_one_end_and_the_next_is_whole(jobs, runs, embeds):
    session, ran, asked, broken = Arithmetic(), [], [], bool(runs or embeds)

    def fail_at(calls, places):
        calls.append(None)
        if len(calls) - 1 in places:
            raise MemoryError("no room")

    def embed(ids):
        fail_at(asked, embeds)
        return TABLE[ids]

    session.before_run = lambda: fail_at(ran, runs)
    scheduler = Scheduler(Decoder(session), embed)
    told = [(Faulty(*job), prompt) for job, prompt in zip(jobs, prompts(len(jobs)), strict=True)]
    for one, prompt in told:
        scheduler.add(one.job(prompt))
    for one, _ in told:
        one.wait()
    session.before_run = lambda: None
    embeds.clear()
    whole = [alone(scheduler, prompt, one.most) for one, prompt in told]
    scheduler.close()
    assert [one.ends for one, _ in told] == [1] * len(told)
    for (one, _), wanted in zip(told, whole, strict=True):
        assert one.tokens == wanted[: len(one.tokens)], "no fault of another changes what is said"
        if one.fault == "none" and not broken:
            assert one.error is None and one.tokens == wanted
