"""Words to lines and lines to a page: docTR's ``DocumentBuilder`` with its defaults, on straight boxes.

As there by default, all lines of a page are one block: dividing them takes a clustering that has to be asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tritonvision.python_backend.ocr import reading_order

_BREAK = 0.035  # share of the page's width: a wider gap between two words parts lines
_MANY = 5  # gaps from which on a page's own spacing decides


@dataclass(frozen=True)
class Word:
    """A word: its text, the reader's confidence, and its corners as fractions of the page."""

    text: str
    confidence: float
    box: tuple[float, float, float, float]


def lines(boxes: np.ndarray, shape: tuple[int, int]) -> list[list[int]]:
    """Which boxes stand in one line, from top to bottom, each from left to right.

    Args:
        boxes: float64 ``[n, 4]`` corners as fractions of the page.
        shape: height and width of the page.
    """
    if not len(boxes):
        return []
    heights = boxes[:, 3] - boxes[:, 1]
    median = float(np.median(heights))
    rows = _rows(boxes, median)
    farthest = _break(boxes, rows, median * shape[0] / shape[1])
    return [part for row in rows for part in _parts(boxes, row, farthest)]


def _rows(boxes: np.ndarray, median: float) -> list[list[int]]:
    """Boxes whose centres are about equally high."""
    order = (boxes[:, 0] + 2 * boxes[:, 3] / (median if median > 0 else 1.0)).argsort()
    centres = (boxes[:, 1] + boxes[:, 3]) / 2
    rows, total = [[order[0]]], centres[order[0]]
    for index in order[1:]:
        if abs(centres[index] - total / len(rows[-1])) < median / 2:
            rows[-1].append(index)
            total += centres[index]
        else:
            rows.append([index])
            total = centres[index]
    return rows


def _break(boxes: np.ndarray, rows: Sequence[Sequence[int]], floor: float) -> float:
    """The gap that parts a row, as a share of the page's width; ``floor`` is a word's height in that unit."""
    gaps = [np.zeros(0)]
    for row in rows:
        ordered = boxes[np.asarray(row)]
        ordered = ordered[np.argsort(ordered[:, 0], kind="stable")]
        gaps.append(ordered[1:, 0] - ordered[:-1, 2])
    all_gaps = np.concatenate(gaps)
    spaces = all_gaps[all_gaps > 0]
    if len(spaces) >= _MANY and len(spaces) >= 0.5 * len(all_gaps):
        return min(_BREAK, max(3.0 * float(np.median(spaces)), floor))
    return min(_BREAK, floor) if len(all_gaps) >= _MANY else _BREAK


def _parts(boxes: np.ndarray, row: Sequence[int], farthest: float) -> list[list[int]]:
    """A row from left to right, parted where a gap is no smaller than ``farthest``."""
    ordered = [row[i] for i in boxes[row, 0].argsort()]
    parts = [[int(ordered[0])]]
    for left, right in pairwise(ordered):
        if boxes[right, 0] - boxes[left, 2] < farthest:
            parts[-1].append(int(right))
        else:
            parts.append([int(right)])
    return parts


BLOCK, LINE, WORD = range(3)
LABELS = ("block", "line", "word")


def page(words: Sequence[Word], shape: tuple[int, int]) -> dict[str, np.ndarray]:
    """The tensors of a page: its block, then each line followed by its words.

    Args:
        shape: height and width of the page in pixels.

    Returns:
        ``boxes`` float32 ``[n, 4]`` corners in pixels, ``scores`` float32 ``[n]`` (of a word the reader's confidence,
        of a line or block the mean of its words'), ``class_ids`` int32 ``[n]`` (block 0, line 1, word 2), ``texts``
        bytes ``[n]``, ``parents`` int32 ``[n]`` (a row, -1 of a block), ``text`` bytes ``[1]``, see :func:`render`.
    """
    grouped = [[words[i] for i in line] for line in lines(np.array([word.box for word in words]), shape)]
    rows: list[tuple[int, int, Sequence[Word], str]] = []  # class, parent, words, text
    if grouped:
        rows.append((BLOCK, -1, [word for line in grouped for word in line], "\n".join(map(_text, grouped))))
    for line in grouped:
        rows.append((LINE, 0, line, _text(line)))
        parent = len(rows) - 1
        rows.extend((WORD, parent, [word], word.text) for word in line)
    return {
        "boxes": (np.array([_around(row[2]) for row in rows]).reshape(-1, 4) * _scale(shape)).astype(np.float32),
        "scores": np.array([np.mean([word.confidence for word in row[2]]) for row in rows], np.float32),
        "class_ids": np.array([row[0] for row in rows], np.int32),
        "texts": np.array([row[3].encode() for row in rows], object),
        "parents": np.array([row[1] for row in rows], np.int32),
        "text": np.array([render(grouped).encode()], object),
    }


def render(grouped: Sequence[Sequence[Word]]) -> str:
    """Lines as a person reads them: a line each, an empty one between paragraphs; lines without a letter are left out.

    Only here the order of reading counts, which follows columns: rows of tensors go from top to bottom.
    """
    page_runs = reading_order.runs_right_to_left(word.text for line in grouped for word in line)
    boxes = np.array([_around(line) for line in grouped]).reshape(-1, 4)
    parts = []
    for paragraph in reading_order.paragraphs(boxes, page_runs):
        texts = [_read(grouped[i]) for i in paragraph]
        parts.append("\n".join(text for text in texts if text.strip()))
    return "\n\n".join(part for part in parts if part)


def _read(line: Sequence[Word]) -> str:
    """A line's text, its words from right to left where its letters run so."""
    if len(line) > 1 and reading_order.runs_right_to_left(word.text for word in line):
        line = sorted(line, key=lambda word: -(word.box[0] + word.box[2]) / 2)
    return _text(line)


def _text(line: Sequence[Word]) -> str:
    return " ".join(word.text for word in line)


def _around(words: Sequence[Word]) -> tuple[float, float, float, float]:
    """The smallest box around all of them."""
    left, top, right, bottom = zip(*(word.box for word in words), strict=True)
    return min(left), min(top), max(right), max(bottom)


def _scale(shape: tuple[int, int]) -> np.ndarray:
    height, width = shape
    return np.array([width, height, width, height], np.float64)
