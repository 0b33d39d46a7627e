"""The order in which lines are read: columns one after the other, paragraphs apart, scripts their own way."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.python_backend.ocr import reading_order

TITLE = (0.1, 0.05, 0.9, 0.10)
LEFT = [(0.1, y, 0.45, y + 0.02) for y in (0.20, 0.23, 0.26)]
RIGHT = [(0.55, y, 0.9, y + 0.02) for y in (0.20, 0.23, 0.26)]


def test_the_left_column_is_read_before_the_right_one():
    boxes = np.array([TITLE, *(line for pair in zip(LEFT, RIGHT, strict=True) for line in pair)])
    assert reading_order.paragraphs(boxes) == [[0], [1, 3, 5], [2, 4, 6]]


def test_from_right_to_left_the_right_column_comes_first():
    assert reading_order.paragraphs(np.array([*LEFT, *RIGHT]), right_to_left=True) == [[3, 4, 5], [0, 1, 2]]


def test_a_gap_parts_paragraphs():
    boxes = np.array([(0.1, y, 0.9, y + 0.02) for y in (0.1, 0.13, 0.3, 0.33)])
    assert reading_order.paragraphs(boxes) == [[0, 1], [2, 3]]


def test_no_lines_no_paragraphs():
    assert reading_order.paragraphs(np.zeros((0, 4))) == []


def test_letters_tell_which_way_they_run():
    assert not reading_order.runs_right_to_left(["Hello", "1927", "שלום"[:2]])
    assert reading_order.runs_right_to_left(["שלום", "ab"])
    assert not reading_order.runs_right_to_left(["12", "", "!"])


corner = st.floats(0, 0.9)
box = st.builds(lambda x, y, w, h: (x, y, x + w, y + h), corner, corner, st.floats(0, 0.1), st.floats(0, 0.1))


@given(st.lists(box, max_size=25), st.booleans())
def test_every_line_is_read_once(boxes, right_to_left):
    found = reading_order.paragraphs(np.array(boxes).reshape(-1, 4), right_to_left)
    assert sorted(index for paragraph in found for index in paragraph) == list(range(len(boxes)))
