"""A reply in pieces is sorted as the whole one is, however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.grounding.reply import split
from tritonvision.grounding.reply_stream import ReplyStream

THOUGHT = "<think>\nA dog; 1 < 2, </b>.\n</think>\n\n<answer>\nTwo dogs.\n</answer>\n"
REPLIES = [
    THOUGHT, "<think>So.</think> Yes.", " \n<think>\n\n</think>\n\nNo. ", "<think>cut off", "<think>cut </thi", "<thin",
    "<think>a</think><answer>cut", "<think>a</think>", "A dog.", "  spaced  ", "a <think>b</think> c", "",
    "<think>a</think>\n<ans", "<answer>x</answer>", "<think>a</think> b <answer> c",
]  # fmt: skip


def sorted_out(pieces):
    stream = ReplyStream()
    parts = [*map(stream.push, pieces), stream.end()]
    return "".join(part.thinking for part in parts), "".join(part.answer for part in parts)


@pytest.mark.parametrize("text", REPLIES[:9])
def test_the_parts_are_those_of_the_whole_reply(text):
    whole = split(text)
    assert sorted_out([text]) == (whole.thinking or "", whole.answer)


@given(st.sampled_from(REPLIES), st.lists(st.integers(0, 80), max_size=12))
def test_it_does_not_matter_how_a_reply_is_cut(text, cuts):
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[begin:end] for begin, end in zip(ends, ends[1:], strict=False)]
    assert sorted_out(pieces) == sorted_out([*text]) == sorted_out([text])


def test_what_cannot_be_a_tag_is_told_at_once():
    stream = ReplyStream()
    assert stream.push("A ").answer == "A " and stream.push("<dog").answer == "<dog"
    stream = ReplyStream()
    assert stream.push("<think>so") == ("so", "") and stream.push("</th") == ("", "")
    assert stream.push("ink>\n\nYes") == ("", "Yes") and stream.push(" no ") == ("", " no")


def test_a_reply_that_begins_with_no_thought_keeps_its_tags_and_spaces():
    for text in ("  spaced  ", "a <think>b</think> c", "<answer>x</answer>", "<thin"):
        assert sorted_out([text]) == ("", text)
