"""CTC decoding, and joining the texts of overlapping pieces, both as python-doctr 1.1.0."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np


def decode(logits: np.ndarray, vocabulary: str) -> tuple[str, float]:
    """The best path: repeats collapsed, blanks dropped.

    Args:
        logits: float32 ``[steps, len(vocabulary) + 1]``, the blank last.

    Returns:
        The word, and its confidence: the smallest of the steps' largest probabilities.
    """
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = float((1 / exponents.sum(axis=1)).min())  # the largest exponent is 1
    path = (index for index, _ in groupby(logits.argmax(axis=1).tolist()))
    return "".join(vocabulary[index] for index in path if index < len(vocabulary)), confidence


def join(texts: Sequence[str], overlap: float, last_overlap: float) -> str:
    """Texts of neighbouring pieces as one.

    Args:
        overlap: expected share of a text that the next one repeats.
        last_overlap: the same of the last two.
    """
    joined = texts[0]
    for number, text in enumerate(texts[1:], start=2):
        joined = _join(joined, text, last_overlap if number == len(texts) else overlap)
    return joined


def _join(left: str, right: str, overlap: float) -> str:
    """Two texts, overlapped where their characters agree best, near the expected overlap.

    The last character of ``left`` and the first of ``right`` may be cut off halfway, so they do not count.
    """
    if min(len(left), len(right)) <= 1:
        return left + right
    head, tail = left[:-1], right[1:]
    lengths = range(1, min(len(head), len(tail)) + 1)
    errors = [sum(a != b for a, b in zip(head[-n:], tail[:n], strict=True)) for n in lengths]
    expected = round(len(right) * overlap) - 3  # an index into errors, the dropped characters taken off
    exact = [i for i, error in enumerate(errors) if error == 0]
    if exact:
        best = min(exact, key=lambda i: abs(i - expected))
    elif expected < -1:
        return left + right
    elif expected < 0:
        return head + tail
    else:
        best = min(range(len(errors)), key=lambda i: errors[i] + abs(i - expected))
    return head + tail[best + 1 :]
