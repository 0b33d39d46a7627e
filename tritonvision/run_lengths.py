"""COCO's compressed run lengths of a mask, read: pycocotools leaves memory as it was where the runs end too early."""

from __future__ import annotations

import numpy as np

_LETTER, _MORE, _SIGN, _BITS = 48, 32, 16, 5
_LONGEST = 7  # letters of a number: more than any picture has pixels for


def decode(counts: bytes, height: int, width: int) -> np.ndarray:
    """bool ``[height, width]`` of ``counts``: runs of zeros and ones by turns, zeros first, down the columns.

    Raises:
        ValueError: they are no run lengths, or do not cover the picture exactly.
    """
    lengths = _lengths(np.frombuffer(counts, dtype=np.uint8).astype(np.int64) - _LETTER)
    if (lengths < 0).any() or (lengths > height * width).any() or lengths.sum() != height * width:
        raise ValueError("The run lengths do not cover the picture.")
    ones = np.arange(len(lengths)) % 2 == 1
    return np.repeat(ones, lengths).reshape(width, height).T


def _lengths(letters: np.ndarray) -> np.ndarray:
    """int64 lengths out of ``letters``: 5 bits each, the lowest first, and one that tells whether more follow.

    From the fourth number on each is the difference to the last but one; the last letter's highest bit is the sign.
    """
    if not letters.size or letters.min() < 0 or letters.max() >= 2 * _MORE or letters[-1] & _MORE:
        raise ValueError("The run lengths are cut short, or none.")
    ends = np.flatnonzero(letters & _MORE == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() >= _LONGEST:
        raise ValueError("A run length is larger than any picture.")
    place = np.arange(len(letters)) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((letters & (_MORE - 1)) << _BITS * place, starts)
    values -= np.where(letters[ends] & _SIGN, 1 << _BITS * (ends - starts + 1), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
