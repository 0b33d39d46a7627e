"""The tokens of one answer as pieces of text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tritonvision.python_backend.generation.prompt import Speaker
from tritonvision.python_backend.generation.text_stream import TextStream
from tritonvision.results import Delta

# likelihoods(token) -> its log probability, and the likeliest tokens of its place with theirs
Likelihoods = Callable[[int], tuple[float, list[tuple[int, float]]]]


class Answer:
    """Turns the tokens of one answer into pieces of text, until an end token, a stop text or the limit of tokens.

    Args:
        most: tokens it may have.
        end_ids: tokens that end it.
        prompt: tokens of its prompt.
        emit: called with every piece.
        masks: gives the masks that all its tokens spell, where the model writes such.
        cached: tokens of the prompt that were not read again.
        likelihoods: tells those of the last token; None where nobody asked.
    """

    def __init__(
        self, text: TextStream | Speaker, most: int, end_ids: Sequence[int], prompt: int, emit: Callable[[Delta], None],
        masks: Callable[[Sequence[int]], np.ndarray | None] | None = None, cached: int = 0,
        likelihoods: Likelihoods | None = None,
    ):  # fmt: skip
        self._text, self._most, self._end_ids, self._prompt, self._emit = text, most, end_ids, prompt, emit
        self._masks, self._cached, self._likelihoods = masks, cached, likelihoods
        self._count = 0
        self._said: list[int] = []
        self._pending: list[int] = []
        self._told: list[dict[str, Any]] = []

    def accept(self, token: int) -> bool:
        """Take the next token and emit the text that it completes. Returns whether the answer continues."""
        self._count += 1
        self._pending.append(token)
        self._said.append(token)
        ended = token in self._end_ids
        if self._likelihoods is not None and not ended:
            self._told.append(self._tell(token, *self._likelihoods(token)))
        text = "" if ended else self._text.push(token)
        reason = "stop" if ended or self._text.stopped else "length" if self._count >= self._most else ""
        if reason:
            text += self._text.flush()
        if text or reason:
            ids = np.array(self._pending, dtype=np.int64)
            used, told = (self._prompt, self._count), tuple(self._told)
            masks = self._masks(self._said) if reason and self._masks is not None else None
            self._emit(Delta(text, ids, reason, used, masks, cached_tokens=self._cached, logprobs=told))
            self._pending, self._told = [], []
        return not reason

    def _tell(self, token: int, probability: float, likeliest: Sequence[tuple[int, float]]) -> dict[str, Any]:
        """As OpenAI's ``logprobs.content`` has it."""
        assert isinstance(self._text, TextStream), "a speaker's answer is asked for no likelihoods"
        best = [self._text.named(one) | {"logprob": value} for one, value in likeliest]
        return self._text.named(token) | {"logprob": probability, "top_logprobs": best}
