"""A model's whole reply: what it thought, and what it answers."""

from __future__ import annotations

import re
from typing import NamedTuple

_THINK, _THOUGHT = "<think>", "</think>"
_ANSWER, _ANSWERED = "<answer>", "</answer>"
_FENCE = re.compile(r"\s*```[\w-]*[ \t]*\n(.*?)(?:\n?```\s*|\Z)", re.DOTALL)


class Reply(NamedTuple):
    """A reply in two parts.

    Attributes:
        thinking: what stands before the answer, or None where the model did not think.
        answer: the answer; empty where the limit of tokens cut the thinking.
    """

    thinking: str | None
    answer: str


def split(text: str) -> Reply:
    """A reply that may think first: ``<think>..</think>``, then the answer, which may stand in ``<answer>..</answer>``.

    Some templates write ``<think>`` into the prompt, so it may lack here.
    """
    before, thought, after = text.partition(_THOUGHT)
    if thought:
        thinking: str | None = before.replace(_THINK, "", 1).strip()
    elif before.lstrip().startswith(_THINK):
        return Reply(before.replace(_THINK, "", 1).strip(), "")
    else:
        thinking, after = None, text
    _, began, inside = after.partition(_ANSWER)
    if began:
        after = inside.partition(_ANSWERED)[0]
    return Reply(thinking, after if thinking is None and not began else after.strip())


def unfenced(text: str) -> str:
    """The inside of a text that is one block of code between fences, or the text as it is."""
    found = _FENCE.fullmatch(text)
    return found[1] if found else text
