"""Prompts that begin as one before: what of them is kept, and what is read again."""

import numpy as np
import pytest
from counting_vlm import TOKENS, Caller, asks, grey, settings

from tritonvision.python_backend.generation.prompt import Picture


def test_a_second_question_about_a_picture_reads_its_own_words_only(open_engine, networks):
    about = asks("the quick brown fox jumps over the lazy dog", 1), [grey(10)]
    fresh = list(open_engine(kept=0).talk(*about, settings()))
    engine = open_engine()
    list(engine.talk(asks("what is in the picture?", 1), [grey(10)], settings()))
    read, networks.before = [], lambda role: read.append(role)
    again = list(engine.talk(*about, settings()))
    assert [delta.token_ids.tolist() for delta in again] == [delta.token_ids.tolist() for delta in fresh]
    assert again[-1].usage == fresh[-1].usage and fresh[-1].cached_tokens == 0
    assert "vision" not in read and again[-1].cached_tokens >= 17 * TOKENS
    assert len(networks.prompts[-1]) == again[-1].usage[0] - again[-1].cached_tokens < 64
    np.testing.assert_array_equal(networks.prompts[-1], networks.prompts[0][-len(networks.prompts[-1]) :])


def test_the_picture_and_not_its_place_decides_what_is_kept(engine, networks):
    list(engine.talk(asks("fox", 2), [grey(10), grey(20)], settings()))
    swapped = list(engine.talk(asks("fox", 2), [grey(20), grey(10)], settings()))
    assert swapped[-1].cached_tokens < 32
    seen = networks.prompts[-1][networks.prompts[-1][:, 0] == -1]
    np.testing.assert_allclose(seen[:, 1], [20] * 17 * TOKENS + [10] * 17 * TOKENS, atol=0.5)
    first = list(engine.talk(asks("fox", 2), [grey(10), grey(30)], settings()))
    assert 17 * TOKENS <= first[-1].cached_tokens < 17 * TOKENS + 32 + 40
    seen = networks.prompts[-1][networks.prompts[-1][:, 0] == -1]
    assert set(seen[:, 1].round()) <= {10, 30} and (seen[:, 1].round() == 30).sum() == 17 * TOKENS


def test_a_conversation_reads_what_is_new_in_it(engine, networks, tokenizer):
    ask = asks("what is in the picture? the quick brown fox jumps over the lazy dog", 1)
    first = list(engine.talk(ask, [grey(10)], settings(max_new_tokens=40)))
    said = {"role": "assistant", "content": [{"type": "text", "text": "".join(delta.text for delta in first)}]}
    list(engine.talk([*ask, said, *asks("and now?")], [grey(10)], settings()))
    last = list(engine.talk([*ask, said, *asks("and then?")], [grey(10)], settings()))
    assert last[-1].usage[0] - last[-1].cached_tokens <= 48 and last[-1].cached_tokens > first[-1].usage[0]


@pytest.mark.parametrize("point", ["vision", "decoder", "cancelled"])
def test_a_prompt_that_was_not_finished_leaves_nothing_behind(engine, networks, point):
    caller, question = Caller(), asks("the quick brown fox jumps over the lazy dog", 1)

    def reach(role):
        if role == "decoder" and point == "cancelled":
            caller.left = True
        elif role == point:
            raise MemoryError(role)

    networks.before = reach
    assert caller.ask(engine, question, [Picture.of(grey(9))], max_new_tokens=50).wait() is not None
    networks.before = lambda role: None
    after = list(engine.talk(question, [grey(9)], settings()))
    assert after[-1].cached_tokens in (0, *([after[-1].usage[0] // 32 * 32] if point == "cancelled" else []))
    assert [int(id) for delta in after for id in delta.token_ids] == [
        int(id) for delta in engine.talk(question, [grey(9)], settings()) for id in delta.token_ids
    ]
