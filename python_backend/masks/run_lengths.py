"""A mask given on its box, to run lengths or an outline of the whole picture, without a mask of the whole picture.

A mask travels as bytes. Run lengths are COCO's compressed ``counts``: alternating runs of zeros and ones, down the
columns of the whole picture. An outline is little-endian int32 pairs (x, y), empty where the mask is.
"""

from __future__ import annotations

import cv2
import numpy as np


def encode(patch: np.ndarray, left: int, top: int, height: int, width: int, mask_format: str) -> bytes:
    """The bytes of one mask in an answer.

    Args:
        patch: bool ``[h, w]``, the mask at rows ``top`` and columns ``left`` on; it is empty everywhere else.
        height, width: of the picture, in which the patch lies as a whole.
        mask_format: ``rle`` or ``polygon``.
    """
    if mask_format == "polygon":
        return outline(patch, left, top).astype("<i4").tobytes()
    return compress(run_lengths(patch, left, top, height, width))


def outline(patch: np.ndarray, left: int, top: int) -> np.ndarray:
    """int32 ``[n, 2]`` (x, y) in picture pixels: of all outer contours the one with the most vertices.

    Holes and other parts are left out. An empty mask has an empty outline.
    """
    if not patch.any():
        return np.empty((0, 2), dtype=np.int32)
    pixels = np.ascontiguousarray(patch).view(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
    return max(contours, key=len).reshape(-1, 2)


def run_lengths(patch: np.ndarray, left: int, top: int, height: int, width: int) -> np.ndarray:
    """int64 ``[n]``: lengths of the runs of zeros and ones, zeros first, down the columns of the whole picture.

    Arguments as for :func:`encode`.
    """
    h, w = patch.shape
    # every column of the patch, preceded by a zero: so no run reaches from one column into the next
    padded = np.zeros(w * (h + 1) + 1, dtype=bool)
    padded[1:].reshape(w, h + 1)[:, :h] = _columns(patch)
    x, y = np.divmod(np.flatnonzero(padded[1:] != padded[:-1]), h + 1)
    edges = (left + x) * height + (top + y)
    if h == height:  # here they do: what ends with a column may go on at the top of the next
        joined = np.flatnonzero(edges[1:] == edges[:-1])
        edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    ends = np.concatenate([[0], edges, [height * width]])
    if edges.size and edges[-1] == height * width:
        ends = ends[:-1]
    return ends[1:] - ends[:-1]


def _columns(patch: np.ndarray) -> np.ndarray:
    """``patch`` transposed."""
    if patch.flags.c_contiguous and patch.size:
        return cv2.transpose(patch.view(np.uint8)).view(bool)  # numpy's strided copy takes several times as long
    return patch.T


def compress(lengths: np.ndarray) -> bytes:
    """COCO's text of run lengths: from the third run on the difference to the last run but one, 5 bits a letter.

    Letters are the lowest bits first, 32 where another letter follows, from ``chr(48)`` on. The last letter's highest
    bit is the sign.
    """
    values = lengths.astype(np.int64)
    values[3:] -= lengths[1:-2]
    most = int(np.abs(values).max()).bit_length() // 5 + 1
    rest = values[:, None] >> np.arange(0, 5 * most, 5)
    follows = (rest < -16) | (rest > 15)
    letters = ((rest & 31) + 32 * follows + 48).astype(np.uint8)
    used = np.ones_like(follows)
    used[:, 1:] = follows[:, :-1]
    return letters[used].tobytes()
