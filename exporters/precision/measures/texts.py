"""How what models read and write in reduced precision is compared with fp32's: word by word, token by token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.exporters.parity import text_pages
from tritonvision.exporters.parity.checks.chat import TOKENS
from tritonvision.exporters.precision import labelled
from tritonvision.exporters.precision.measures.base import (
    SAME,
    Accuracy,
    Answer,
    Finding,
    Measure,
    Question,
    alike,
    at_least,
    share,
)
from tritonvision.tasks import about_picture


class Words(Measure):
    """Words that are read: the same ones in the same order, none more and none less."""

    most = 12
    accuracies = {"words": Accuracy("share of words that are read", 5)}

    def observe(self, answer: Answer, questions: Sequence[Question]) -> list[list[str]]:
        """The words of each picture."""
        return [_words(answer(question.sample, question.given)) for question in questions]

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``words``: the share that both read."""
        pairs = [alike(ours, theirs) for ours, theirs in zip(base, found, strict=True)]
        same, count = (sum(pair[i] for pair in pairs) for i in (0, 1))
        return count, [at_least("words", share(same, count), SAME, "The share of words that fp32 reads as well")]

    def labelled(self, folder: Path) -> list[tuple[Path, str]]:
        """Pictures, and beside each a ``.txt`` of what stands in it."""
        return labelled.transcripts(folder)

    def accuracy(self, answer: Answer, data: list[tuple[Path, str]]) -> dict[str, float]:
        """``words``: percent of the words that are read as they stand there."""
        pairs = [alike(text.split(), _words(answer(labelled.read(path), {}))) for path, text in data]
        same, count = (sum(pair[i] for pair in pairs) for i in (0, 1))
        return {"words": 100 * share(same, count)}


class PageText(Words):
    """Words of pages."""

    most = 4

    def pictures(self) -> Sequence[np.ndarray]:
        """Eight drawn pages."""
        return [text_pages.page(seed) for seed in range(8)]


class LineText(Words):
    """Words of lines."""

    def pictures(self) -> Sequence[np.ndarray]:
        """Twenty-four drawn lines of three words."""
        words = text_pages.TEXT.split()
        return [text_pages.line(" ".join(words[3 * i : 3 * i + 3])) for i in range(24)]

    def question(self, picture: np.ndarray) -> Question:
        """Greedily, a few tokens."""
        return Question(picture, {"max_new_tokens": TOKENS, "num_beams": 1})


class Chat(Measure):
    """Tokens of greedy answers about pictures."""

    most = 3  # each has many tiles

    def question(self, picture: np.ndarray) -> Question:
        """What is in the picture."""
        sample = {"messages": about_picture("What is in this picture?"), "pictures": [np.ascontiguousarray(picture)]}
        return Question(sample, {"max_new_tokens": TOKENS})

    def agreement(self, base: Sequence[Any], found: Sequence[Any]) -> tuple[int, list[Finding]]:
        """``tokens``: the share that both write."""
        pairs = [
            alike(ours["token_ids"].tolist(), theirs["token_ids"].tolist())
            for ours, theirs in zip(base, found, strict=True)
        ]
        same, count = (sum(pair[i] for pair in pairs) for i in (0, 1))
        return count, [at_least("tokens", share(same, count), SAME, "The share of tokens that fp32 writes as well")]


def _words(answer: Any) -> list[str]:
    """``text``: bytes or str, of one sample."""
    text = np.asarray(answer["text"], dtype=object).reshape(-1)[0]
    return (text.decode() if isinstance(text, bytes) else str(text)).split()
