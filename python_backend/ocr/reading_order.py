"""The reading order of the lines of a page, and its paragraphs: docTR's rule for straight lines.

Thresholds and tie rules are those of python-doctr 1.1.0, ``doctr.models.reading_order``, without a layout model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np

_ABOVE = 0.2  # share of the narrower line's width from which on two lines are in one column
_BESIDE = 0.5  # share of the lower line's height from which on two lines are in one row
_PARAGRAPH = 0.8  # median heights: a larger gap parts paragraphs
_SPANNING = 0.5  # share of the text's width from which on a line belongs to no column


def runs_right_to_left(texts: Iterable[str]) -> bool:
    """Whether most letters that have a direction run from right to left."""
    kinds = [unicodedata.bidirectional(letter) for text in texts for letter in text]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


def paragraphs(
    boxes: np.ndarray, right_to_left: bool = False, in_order: np.ndarray | None = None
) -> list[list[int]]:  # fmt: skip
    """Lines in the order of reading, those of a paragraph together.

    Args:
        boxes: float64 ``[n, 4]`` corners.
        in_order: the boxes by which they are ordered, where these are others.
    """
    if not len(boxes):
        return []
    in_order = boxes if in_order is None else in_order
    if right_to_left:  # seen in a mirror they run the other way
        boxes, in_order = _mirrored(boxes), _mirrored(in_order)
    order = _order(in_order)
    widths, gap = boxes[:, 2] - boxes[:, 0], _PARAGRAPH * float(np.median(boxes[:, 3] - boxes[:, 1]))
    found = [[order[0]]]
    for above, below in zip(order, order[1:], strict=False):
        shared = min(boxes[above, 2], boxes[below, 2]) - max(boxes[above, 0], boxes[below, 0])
        in_column = shared / max(min(widths[above], widths[below]), 1e-9) > _ABOVE
        if in_column and boxes[below, 1] - boxes[above, 3] <= gap:
            found[-1].append(below)
        else:
            found.append([below])
    return found


def _mirrored(boxes: np.ndarray) -> np.ndarray:
    pivot = boxes[:, 0].min() + boxes[:, 2].max()
    return np.stack([pivot - boxes[:, 2], boxes[:, 1], pivot - boxes[:, 0], boxes[:, 3]], axis=1)


def _order(boxes: np.ndarray) -> list[int]:
    """Down the columns, from left to right: a line comes after those above it in its column and left of it in its row.

    Ties continue the current column.
    """
    x0, y0, x1, y1 = boxes.T
    in_column, in_row = _overlap(x0, x1), _overlap(y0, y1) > _BESIDE
    stacked = in_column > _ABOVE
    before = (stacked & _less(y0, y1)) | (in_row & ~stacked & _less(x0, x1))
    np.fill_diagonal(before, False)
    waiting = before.sum(axis=0)
    width = float(x1.max() - x0.min()) or 1.0
    spanning = x1 - x0 > _SPANNING * width
    column = components(stacked & ~spanning[:, None] & ~spanning[None, :])
    several = _several_columns(x0, x1, width)
    left = np.ones(len(boxes), dtype=bool)
    order: list[int] = []
    while left.any():
        ready = np.flatnonzero((waiting == 0) & left)
        choice = ready
        if not len(ready):  # boxes that lie in each other
            choice = np.flatnonzero(left)
        elif order:
            last = order[-1]
            goes_on = ready[stacked[last, ready] & (y0[ready] >= y0[last])] if several else ready[:0]
            beside = ready[in_row[last, ready]]
            near = ready[column[ready] == column[last]] if not spanning[last] else ready[:0]
            choice = next(found for found in (goes_on, beside, near, ready) if len(found))
        following = int(choice[np.lexsort((x0[choice], y0[choice]))[0]])
        order.append(following)
        left[following] = False
        waiting = waiting - before[following]
    return order


def _overlap(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """float32 ``[n, n]``: what two intervals share, as a share of the shorter one."""
    starts, ends = starts.astype(np.float32), ends.astype(np.float32)
    shared = np.minimum(ends[:, None], ends) - np.maximum(starts[:, None], starts)
    lengths = ends - starts
    return shared.clip(0, None) / np.minimum(lengths[:, None], lengths).clip(1e-9, None)


def _less(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """bool ``[n, n]``: whether one comes before the other by ``first``, then ``second``, then its place in the list."""
    ranks = np.empty(len(first), dtype=int)
    ranks[np.lexsort((second, first))] = np.arange(len(first))
    return ranks[:, None] < ranks


def components(linked: np.ndarray) -> np.ndarray:
    """int ``[n]``: the smallest index that each can be reached from, over the symmetric ``linked``."""
    labels = np.arange(len(linked))
    linked = linked | np.eye(len(linked), dtype=bool)
    while True:
        lower = np.where(linked, labels, len(linked)).min(axis=1)
        if (lower == labels).all():
            return labels
        labels = lower


def _several_columns(x0: np.ndarray, x1: np.ndarray, width: float) -> bool:
    """Whether a vertical cut leaves a quarter of the lines on either side and crosses hardly any."""
    count = len(x0)
    if count < 3:
        return False
    middles, low, high = (x0 + x1) / 2, x0.min() + 0.25 * width, x0.min() + 0.75 * width
    for cut in np.unique(x1[(x1 >= low) & (x1 <= high)]):
        crossed = np.count_nonzero(np.minimum(x1 - cut, cut - x0) > 0.02 * width)
        left = np.count_nonzero(middles <= cut)
        if crossed <= max(1, int(0.05 * count)) and left >= 0.25 * count and count - left >= 0.25 * count:
            return True
    return False
