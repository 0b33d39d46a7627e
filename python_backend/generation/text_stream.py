"""Tokens to text as they come: whole characters only, and never a part of a stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tokenizers

from tritonvision.errors import InvalidParameter

MOST_STOPS, LONGEST_STOP = 32, 256  # every token of every answer is compared with all of them, in one thread
_UNFINISHED = "\ufffd"  # a tokenizer decodes incomplete UTF-8 to this


class TextStream:
    """The text of one answer.

    Args:
        tokenizer: special tokens are left out of the text.
        stop: stop texts, which end the answer and are not part of it: the answer is the text before the stop text that
            is complete first, or before the longest of those that end at the same character.

    Raises:
        InvalidParameter: more than ``MOST_STOPS`` of them, or one of more than ``LONGEST_STOP`` characters.

    Attributes:
        stopped: whether a stop text ended the answer.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, stop: Sequence[str] = ()):
        self._tokenizer = tokenizer
        self._stop = check_stops(stop)
        self._ids: list[int] = []
        # Only the last tokens are decoded again: those from _start on, of which those before _read are emitted already.
        self._start = self._read = 0
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that ``token`` completes; empty while a character or a possible stop text is incomplete."""
        self._ids.append(token)
        told = self._decode(self._start, self._read)
        text = self._decode(self._start, len(self._ids))
        if len(text) <= len(told) or text.endswith(_UNFINISHED):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return self._release(text[len(told) :])

    def flush(self) -> str:
        """The text still held back when the answer ends."""
        told = self._decode(self._start, self._read)
        rest = self._release(self._decode(self._start, len(self._ids))[len(told) :])
        rest, self._held = rest + ("" if self.stopped else self._held), ""
        return rest

    def named(self, token: int) -> dict[str, Any]:
        """``token``, its text, and the ``bytes`` of that in UTF-8; None where it is a part of a character."""
        text = self._tokenizer.decode([token], skip_special_tokens=False)
        return {"token": text, "bytes": None if _UNFINISHED in text else list(text.encode())}

    def _decode(self, start: int, end: int) -> str:
        return self._tokenizer.decode(self._ids[start:end], skip_special_tokens=True)

    def _release(self, text: str) -> str:
        """The held text and ``text``, except an end that may begin a stop text."""
        if self.stopped:
            return ""
        self._held += text
        # The stop text that is complete first ends the answer, however the text is cut into tokens.
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            return self._held[: min(found)[1]]
        kept = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        released = self._held[: len(self._held) - kept]
        self._held = self._held[len(self._held) - kept :]
        return released


def check_stops(stop: Sequence[str]) -> tuple[str, ...]:
    """The stop texts that are not empty. Raises InvalidParameter for too many, or one that is too long."""
    if len(stop) > MOST_STOPS or any(len(text) > LONGEST_STOP for text in stop):
        raise InvalidParameter(
            f"An answer may have {MOST_STOPS} stop texts of {LONGEST_STOP} characters each.",
            hint="Send fewer or shorter texts as 'stop'.",
        )
    return tuple(text for text in stop if text)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that ``stop`` begins with."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
