"""One bound for all that prompts and answers have in memory: those that run, those that wait, and what is kept.

That of a model that searches for its answers is in ``test_search_engine.py``.
"""

import threading

import pytest
from counting_vlm import WIDTH, Caller, asks

from tritonvision.errors import Overloaded
from tritonvision.python_backend.generation.prefixes import BLOCK

TOKEN = 4 * WIDTH  # bytes of its keys, and of its embedding
ANSWER = 40


@pytest.fixture
def prompt(tokenizer):
    """A prompt of three blocks and more, another one for each number, and how many tokens it has."""

    def text(number):
        return asks(f"{number} " + "fox jumps " * 45)

    said = f"<|im_start|>User: {text(1)[0]['content'][-1]['text']}<end_of_utterance>\nAssistant:"
    count = len(tokenizer.encode(said).ids)
    assert count > 3 * BLOCK
    return text, count


@pytest.fixture
def pause_decoder(networks):
    """Lets the decoder wait from its next step on: one event tells that it does, the other lets it go on."""

    def pause():
        begun, held = threading.Event(), threading.Event()

        def before(role):
            if role == "decoder":
                begun.set()
                assert held.wait(20)

        networks.before = before
        return begun, held

    return pause


def in_memory(engine):
    """Bytes of a running engine: keys and values (a step has them twice), prompts that wait, what is kept."""
    scheduler = engine.scheduler
    waiting = [*scheduler._waiting]  # others join meanwhile
    caches = [scheduler._cache, *(job.cache for job in waiting)]
    past = sum(value.numpy().nbytes for cache in caches if cache is not None for value in cache.past)
    return 2 * past + sum(job.held for job in waiting) + engine._prefixes.size


def test_prompts_that_wait_without_room_are_refused_and_those_before_them_answered(open_engine, pause_decoder, prompt):
    text, count = prompt
    alone = 2 * (count + ANSWER) * TOKEN
    engine = open_engine(room=alone + 3 * count * TOKEN, kept=0)
    begun, held = pause_decoder()
    first = Caller().ask(engine, text(0), max_new_tokens=ANSWER)
    assert begun.wait(20)
    callers = [Caller().ask(engine, text(n), max_new_tokens=ANSWER) for n in range(1, 8)]
    errors = [caller.wait() for caller in callers[3:]]
    assert all(isinstance(error, Overloaded) and error.hint for error in errors)
    assert errors[0].message == "3 prompts wait to be read, and there is no memory for one more."
    held.set()
    assert [caller.wait() for caller in (first, *callers[:3])] == [None] * 4
    assert Caller().ask(engine, text(9), max_new_tokens=ANSWER).wait() is None, "there is room again"


def test_all_of_it_together_stays_within_the_room(open_engine, networks, prompt):
    text, count = prompt
    room = 5 * 2 * (count + ANSWER) * TOKEN
    engine = open_engine(room=room)
    most = []
    networks.before = lambda role: most.append(in_memory(engine)) if role == "decoder" else None
    for _ in range(2):  # the second time what is kept is found
        callers = [Caller().ask(engine, text(n % 5), max_new_tokens=ANSWER) for n in range(12)]
        answered = [caller for caller in callers if caller.wait() is None]
        assert len(answered) >= 5 and all(isinstance(caller.error, Overloaded) for caller in {*callers} - {*answered})
    assert room // 8 < max(most) <= room
    assert 0 < engine._prefixes.size <= room // 4


def test_an_answer_that_waits_has_no_copy_of_what_is_kept(open_engine, pause_decoder, prompt):
    text, _ = prompt
    engine = open_engine(room=1 << 20)
    assert Caller().ask(engine, text(0)).wait() is None
    kept = engine._prefixes.size
    begun, held = pause_decoder()
    callers = [Caller().ask(engine, text(0)) for _ in range(6)]
    assert begun.wait(20)
    caches = [job.cache for job in [*engine.scheduler._waiting][1:]]
    held.set()
    assert {caller.wait() for caller in callers} == {None} and not any(caches)
    assert engine._prefixes.size == kept and all(caller.deltas[-1].cached_tokens >= 3 * BLOCK for caller in callers)
