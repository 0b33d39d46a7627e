"""A reply as it comes, in two parts: what the model thinks, and what it answers."""

from __future__ import annotations

from typing import NamedTuple

_THINK, _THOUGHT = "<think>", "</think>"
_ANSWER, _ANSWERED = "<answer>", "</answer>"


class Part(NamedTuple):
    """What a piece of a reply adds to its two parts; either may be empty."""

    thinking: str = ""
    answer: str = ""


def answered(text: str) -> str:
    """The answer of a whole reply, without what the model thought."""
    stream = ReplyStream()
    return stream.push(text).answer + stream.end().answer


class ReplyStream:
    """Sorts the pieces of a reply that may begin with ``<think>..</think>``; in its answer, ``<answer>..</answer>`` may
    stand around it.

    The parts joined are those of :func:`tritonvision.grounding.reply.split`, without space around them. What may be
    such a tag is held back until that is known. A reply that begins with no thought stays as it is.
    """

    def __init__(self) -> None:
        self._held = ""
        self._fresh = False  # whether space is left out, because a part begins
        self._step = self._begin

    def push(self, text: str) -> Part:
        """Take the next piece."""
        self._held += text
        return self._run(last=False)

    def end(self) -> Part:
        """What is still held back when the reply ends."""
        return self._run(last=True)

    def _run(self, last: bool) -> Part:
        parts, step = [], None
        while step != self._step:
            step = self._step
            parts.append(step(last))
        return Part("".join(part.thinking for part in parts), "".join(part.answer for part in parts))

    def _begin(self, last: bool) -> Part:
        begun = self._takes(_THINK, last)
        if begun is not None:
            self._step = self._think if begun else self._plain
        return Part()

    def _think(self, last: bool) -> Part:
        told, ended = self._until(_THOUGHT, last)
        if ended:
            self._step = self._after
        return Part(thinking=told)

    def _after(self, last: bool) -> Part:
        begun = self._takes(_ANSWER, last)
        if begun is not None:
            self._step = self._answer if begun else self._rest
            self._fresh = True
        return Part()

    def _answer(self, last: bool) -> Part:
        told, ended = self._until(_ANSWERED, last)
        if ended:
            self._step = self._nothing
        return Part(answer=told)

    def _rest(self, last: bool) -> Part:
        return Part(answer=self._until("", last)[0])

    def _plain(self, last: bool) -> Part:
        told, self._held = self._held, ""
        return Part(answer=told)

    def _nothing(self, last: bool) -> Part:
        self._held = ""
        return Part()

    def _takes(self, tag: str, last: bool) -> bool | None:
        """Whether ``tag`` comes next, and then it is left out; None where that is not known yet."""
        seen = self._held.lstrip()
        if seen.startswith(tag):
            self._held, self._fresh = seen[len(tag) :], True
            return True
        return None if tag.startswith(seen) and not last else False

    def _until(self, tag: str, last: bool) -> tuple[str, bool]:
        """The text before ``tag`` so far, and whether the tag has come; space around it is left out."""
        if self._fresh:
            self._held = self._held.lstrip()
            self._fresh = not self._held
        before, found, after = self._held.partition(tag) if tag else (self._held, "", "")
        if found:
            self._held = after
            return before.rstrip(), True
        kept = 0 if last else max(n for n in range(len(tag) + 1) if self._held.endswith(tag[:n]))
        end = len(self._held[: len(self._held) - kept].rstrip())
        told, self._held = self._held[:end], self._held[end:]
        return told, False
