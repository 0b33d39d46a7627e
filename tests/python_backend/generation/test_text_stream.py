"""Tokens to text: nothing half is ever said, and nothing of a stop text."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.generation.text_stream import TextStream


@pytest.fixture(scope="module")
def tokenizer(byte_level):
    return byte_level(["<end>"])


def said(tokenizer, text, stop=()):
    stream = TextStream(tokenizer, stop)
    pieces = []
    for token in tokenizer.encode(text).ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.flush()], stream.stopped


@settings(deadline=None)
@given(st.text(max_size=60))
def test_the_pieces_are_the_text(tokenizer, text):
    pieces, _ = said(tokenizer, text)
    assert "".join(pieces) == text


@settings(deadline=None)
@given(st.text(alphabet="aé漢🙂\n ", max_size=40))
def test_no_piece_holds_half_a_character(tokenizer, text):
    assert not any("\ufffd" in piece for piece in said(tokenizer, text)[0])


WORDS_AND_LETTERS = st.lists(st.sampled_from([" the", " quick", " fox", " dog", " over", "a", "b", " "]), max_size=12)
STOPS = st.lists(st.sampled_from(["the", "he q", "o", "og", "dog", "fox d", "ver the", "a", "ab", "ba b"]), max_size=3)


@settings(deadline=None)
@given(WORDS_AND_LETTERS.map("".join), STOPS)
def test_an_answer_is_its_text_before_the_stop_text_that_is_complete_first(tokenizer, text, stop):
    pieces, stopped = said(tokenizer, text, stop)
    found = [(text.find(mark) + len(mark), text.find(mark)) for mark in stop if mark in text]
    assert stopped == bool(found)
    assert "".join(pieces) == (text[: min(found)[1]] if found else text)


def test_where_an_answer_stops_does_not_depend_on_how_it_is_cut_into_tokens(tokenizer):
    assert len(tokenizer.encode(" dog").ids) == 1
    assert "".join(said(tokenizer, " dog", ["dog", "o"])[0]) == " d"


@pytest.mark.parametrize("stop", [["a"] * 33, ["a" * 257]])
def test_stop_texts_have_bounds_since_every_token_is_compared_with_them(tokenizer, stop):
    with pytest.raises(InvalidParameter, match="32 stop texts of 256 characters"):
        TextStream(tokenizer, stop)
    TextStream(tokenizer, ["a" * 256] * 32)


def test_special_tokens_are_not_said(tokenizer):
    stream = TextStream(tokenizer)
    assert [stream.push(tokenizer.token_to_id("<end>")), stream.push(tokenizer.encode("fox").ids[0])][0] == ""


def test_an_answer_that_ends_within_a_character_says_so_at_the_end(tokenizer):
    stream = TextStream(tokenizer)
    first, *_ = tokenizer.encode("漢").ids
    assert stream.push(first) == ""
    assert stream.flush() == "\ufffd"
