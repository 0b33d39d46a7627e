"""Steps of recognisers to text, and texts of overlapping pieces joined, as python-doctr 1.1.0 and easyocr 1.7.2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, takewhile

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


def decode_until_end(logits: np.ndarray, vocabulary: str) -> tuple[str, float]:
    """A letter a step until the token that ends the word, as docTR's ViTSTR and PARSeq.

    Args:
        logits: float32 ``[steps, len(vocabulary) + 1]``, the end last; tokens after it are no letters either.

    Returns:
        The word, and its confidence: the mean of its steps' largest probabilities, 0 of no letter.
    """
    word, likely = _until_end(logits, vocabulary)
    return word, float(likely[: len(word)].mean()) if word else 0.0


def decode_until_end_surely(logits: np.ndarray, vocabulary: str) -> tuple[str, float]:
    """As :func:`decode_until_end`, with the confidence of docTR's SAR and MASTER: the smallest of all steps', also of
    those after the end.
    """
    word, likely = _until_end(logits, vocabulary)
    return word, float(likely.min())


def _until_end(logits: np.ndarray, vocabulary: str) -> tuple[str, np.ndarray]:
    likely = 1 / np.exp(logits - logits.max(axis=1, keepdims=True)).sum(axis=1)
    letters = takewhile(lambda index: index < len(vocabulary), logits.argmax(axis=1).tolist())
    return "".join(vocabulary[index] for index in letters), likely


# By what the options of an entry point call them.
DECODERS = {"ctc": decode, "until-end": decode_until_end, "until-end-least": decode_until_end_surely}


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


def decode_allowed(logits: np.ndarray, characters: str, allowed: np.ndarray) -> tuple[str, float]:
    """The best path over some of the characters, as easyocr 1.7.2 takes it, which has the blank first.

    Args:
        logits: float32 ``[steps, len(characters) + 1]``.
        allowed: bool ``[len(characters) + 1]``, True of the blank.

    Returns:
        The text, and its confidence: of the probabilities of its steps, which are not blanks, the product to the power
        of 2 over the root of their number; 0 without such a step.
    """
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    likely = np.where(allowed, exponents / exponents.sum(axis=1, keepdims=True), np.float32(0))
    likely = likely / likely.sum(axis=1, keepdims=True)
    best = likely.argmax(axis=1)
    sure = likely.max(axis=1)[best != 0]
    text = "".join(characters[index - 1] for index, _ in groupby(best.tolist()) if index)
    return text, float(sure.prod() ** (2.0 / np.sqrt(len(sure)))) if len(sure) else 0.0
