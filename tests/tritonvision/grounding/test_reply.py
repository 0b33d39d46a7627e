"""A reply's thinking and its answer."""

import pytest

from tritonvision.grounding.reply import Reply, split, unfenced


@pytest.mark.parametrize(("text", "thinking", "answer"), [
    (" A cat. ", None, " A cat. "),
    ("<think>\nIt purrs.\n</think>\n\nA cat.", "It purrs.", "A cat."),
    ("It purrs.</think>A cat.", "It purrs.", "A cat."),  # the template wrote <think> into the prompt
    ("<think>a</think> so <answer>\nA cat.\n</answer> bye", "a", "A cat."),
    ("<answer>A cat.", None, "A cat."),
    ("<think>It purrs, so", "It purrs, so", ""),
    ("", None, ""),
])  # fmt: skip
def test_a_reply_is_split(text, thinking, answer):
    assert split(text) == Reply(thinking, answer)


@pytest.mark.parametrize(("text", "inside"), [
    ("```json\n[1]\n```", "[1]"), ("\n```\n[1]", "[1]"), ("[1]", "[1]"),
    ("so ```json\n[1]\n```", "so ```json\n[1]\n```"),
])  # fmt: skip
def test_one_fence_is_taken_off(text, inside):
    assert unfenced(text) == inside
