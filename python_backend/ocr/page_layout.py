"""Words to lines, lines to blocks and these to a page: docTR's ``DocumentBuilder``, on upright and on turned boxes.

As there by default, all lines of a page are one block: dividing them is a clustering that has to be asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tritonvision.python_backend.ocr import reading_order, turned

_BREAK = 0.035  # share of the page's width: a wider gap between two words parts lines
_MANY = 5  # gaps from which on a page's own spacing decides
_NEAR = 0.1  # distance of the features of lines up to which they are in one block


@dataclass(frozen=True)
class Word:
    """A word: its text, the reader's confidence, and its place as fractions of the page.

    Attributes:
        box: two corners ``[4]``, or ``[4, 2]`` clockwise from the upper left of the text.
    """

    text: str
    confidence: float
    box: Sequence[float] | np.ndarray

    @property
    def place(self) -> np.ndarray:
        """``box``, float64."""
        return np.asarray(self.box, np.float64)


def lines(boxes: np.ndarray, shape: tuple[int, int]) -> list[list[int]]:
    """Which boxes stand in one line, from top to bottom, each from left to right.

    Args:
        boxes: float64 ``[n, 4]`` corners as fractions of the page, or ``[n, 4, 2]``.
        shape: height and width of the page.
    """
    if not len(boxes):
        return []
    if boxes.ndim == 3:
        boxes = turned.upright(boxes, shape)
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


def blocks(boxes: np.ndarray, lines: Sequence[Sequence[int]]) -> list[list[int]]:
    """Which lines are one block, each block in the order of its first line: lines whose places are near each other.

    docTR clusters them by single linkage, which up to a distance is what chains of near ones reach.

    Args:
        boxes: of the words, see :func:`lines`.
        lines: words of each line.
    """
    around = np.stack([_around([boxes[i] for i in line]) for line in lines])
    left, top, right, bottom = around.T if around.ndim == 2 else around[:, (0, 0, 2, 2), (0, 1, 0, 1)].T
    if around.ndim == 2:
        pairs = (left, bottom), (top, right), (left, right), (top, bottom), (left, left), (top, top)
    else:
        pairs = (left, top), (left, right), (left, bottom), (top, bottom), (top, right), (right, bottom)
    features = np.stack([(first + second) / 2 for first, second in pairs], axis=-1).astype(np.float64)
    apart = np.sqrt(((features[:, None] - features) ** 2).sum(axis=-1))
    labels = reading_order.components(apart <= _NEAR)
    return [np.flatnonzero(labels == label).tolist() for label in dict.fromkeys(labels.tolist())]


BLOCK, LINE, WORD = range(3)
LABELS = ("block", "line", "word")


@dataclass(frozen=True)
class _Row:
    """A region of the page: its class, the row of what it is a part of, its words, its text, and its place."""

    kind: int
    parent: int
    words: Sequence[Word]
    text: str
    place: np.ndarray


def page(
    words: Sequence[Word], shape: tuple[int, int], divided: bool = False,
    seen: tuple[int, int] | None = None, back: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The tensors of a page: each block, followed by its lines, each of which is followed by its words.

    Args:
        shape: height and width in pixels of the page on which answers are.
        divided: whether lines are divided into blocks.
        seen: height and width of the page on which the words were found, where that is another one;
        back: the way from there, of a box or a polygon.

    Returns:
        ``boxes`` float32 ``[n, 4]`` corners in pixels, ``scores`` float32 ``[n]`` (of a word the reader's confidence,
        of a line or block the mean of its words'), ``class_ids`` int32 ``[n]`` (block 0, line 1, word 2), ``texts``
        bytes ``[n]``, ``parents`` int32 ``[n]`` (a row, -1 of a block), ``text`` bytes ``[1]``, see :func:`render`;
        and where the words' places have four corners ``polygons`` float32 ``[n, 4, 2]``, pixels, clockwise from the
        upper left of words, from the corner nearest to the page's upper left of the rest.
    """
    rows = _rows_of(words, seen or shape, divided, back or (lambda place: place))
    places = np.array([row.place for row in rows]) if rows else np.zeros((0, 4))
    points = places.reshape(len(rows), places[:1].size // 2 or 2, 2) * shape[::-1]
    corners = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    found = {
        "boxes": corners.astype(np.float32),
        "scores": np.array([np.mean([word.confidence for word in row.words]) for row in rows], np.float32),
        "class_ids": np.array([row.kind for row in rows], np.int32),
        "texts": np.array([row.text.encode() for row in rows], object),
        "parents": np.array([row.parent for row in rows], np.int32),
        "text": np.array([_render(rows, shape).encode()], object),
    }
    return found | ({"polygons": points.astype(np.float32)} if places.ndim == 3 else {})


def _rows_of(
    words: Sequence[Word], shape: tuple[int, int], divided: bool, back: Callable[[np.ndarray], np.ndarray]
) -> list[_Row]:
    boxes = np.array([word.place for word in words])
    grouped = lines(boxes, shape)
    divisions = blocks(boxes, grouped) if divided and len(grouped) > 1 else [list(range(len(grouped)))] * bool(grouped)
    rows: list[_Row] = []
    for division in divisions:
        of_block = [[words[i] for i in grouped[line]] for line in division]
        whole = [word for line in of_block for word in line]
        block = len(rows)
        rows.append(_Row(BLOCK, -1, whole, "\n".join(map(_text, of_block)), back(_around_words(whole))))
        for line in of_block:
            parent = len(rows)
            rows.append(_Row(LINE, block, line, _text(line), back(_around_words(line))))
            rows.extend(_Row(WORD, parent, [word], word.text, back(word.place)) for word in line)
    return rows


def _render(rows: Sequence[_Row], shape: tuple[int, int]) -> str:
    """Lines as a person reads them: a line each, an empty one between paragraphs; lines without a letter are left out.

    Only here the order of reading counts, which follows columns: rows of tensors go from top to bottom.
    """
    of_lines = [row for row in rows if row.kind == LINE]
    if not of_lines:
        return ""
    of_words = [row for row in rows if row.kind == WORD]
    places = in_order = np.stack([row.place for row in of_lines])
    if places.ndim == 3:
        places, in_order = turned.deskewed(places, np.stack([row.place for row in of_words]), shape)
    middles = {id(row.words[0]): float(row.place.reshape(-1, 2)[:, 0].mean()) for row in of_words}
    runs = reading_order.runs_right_to_left(row.text for row in of_words)
    parts = []
    for paragraph in reading_order.paragraphs(places, runs, in_order):
        texts = [_read(of_lines[i].words, middles) for i in paragraph]
        parts.append("\n".join(text for text in texts if text.strip()))
    return "\n\n".join(part for part in parts if part)


def _read(line: Sequence[Word], middles: dict[int, float]) -> str:
    """A line's text, its words from right to left where its letters run so."""
    if len(line) > 1 and reading_order.runs_right_to_left(word.text for word in line):
        line = sorted(line, key=lambda word: -middles[id(word)])
    return _text(line)


def _text(line: Sequence[Word]) -> str:
    return " ".join(word.text for word in line)


def _around_words(words: Sequence[Word]) -> np.ndarray:
    return _around([word.place for word in words])


def _around(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """The smallest box around all of them, upright or turned as they are."""
    if boxes[0].ndim == 2:
        return turned.around(boxes)
    every = np.stack(boxes)
    return np.concatenate([every[:, :2].min(axis=0), every[:, 2:].max(axis=0)])
