"""Words to lines to a page: what stands side by side is one line, wide gaps part, every word appears once."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.python_backend.ocr import page_layout
from tritonvision.python_backend.ocr.page_layout import Word

SHAPE = (1000, 800)


def word(text, left, top, width=0.04, height=0.03, confidence=0.9):
    return Word(text, confidence, (left, top, left + width, top + height))


PAGE = [
    word("world", 0.16, 0.101), word("Hello", 0.10, 0.10, confidence=0.5), word("again", 0.22, 0.102),
    word("far", 0.80, 0.10), word("below", 0.10, 0.15), word("it", 0.15, 0.149),
]  # fmt: skip


def lines_of(words, shape=SHAPE):
    grouped = page_layout.lines(np.array([w.box for w in words]).reshape(-1, 4), shape)
    return [[words[i].text for i in line] for line in grouped]


def test_words_of_one_height_are_a_line_and_a_wide_gap_parts_it():
    assert lines_of(PAGE) == [["Hello", "world", "again"], ["far"], ["below", "it"]]


def test_one_word_is_a_line_and_none_are_none():
    assert lines_of(PAGE[:1]) == [["world"]] and lines_of([]) == []


def test_a_page_is_a_block_then_lines_each_before_its_words():
    found = page_layout.page(PAGE, SHAPE)
    assert found["class_ids"].tolist() == [0, 1, 2, 2, 2, 1, 2, 1, 2, 2]
    assert found["parents"].tolist() == [-1, 0, 1, 1, 1, 0, 5, 0, 7, 7]
    assert found["texts"].tolist()[1:5] == [b"Hello world again", b"Hello", b"world", b"again"]
    assert found["texts"][0] == b"Hello world again\nfar\nbelow it"
    assert found["text"].tolist() == [b"Hello world again\n\nfar\n\nbelow it"]  # what is not in one column parts
    np.testing.assert_allclose(found["boxes"][1], (80, 100, 0.26 * 800, 132), atol=1e-3)
    np.testing.assert_allclose(found["scores"][[1, 2]], ((0.9 + 0.5 + 0.9) / 3, 0.5))


def test_a_page_without_words_is_empty():
    found = page_layout.page([], SHAPE)
    assert found["boxes"].shape == (0, 4) and found["texts"].shape == (0,) and found["text"].tolist() == [b""]
    types = {name: value.dtype for name, value in found.items()}
    assert types["boxes"] == types["scores"] == np.float32 and types["class_ids"] == types["parents"] == np.int32


def test_words_that_read_nothing_keep_their_place_but_leave_no_empty_line():
    found = page_layout.page([word("", 0.1, 0.1), word("x", 0.1, 0.15)], SHAPE)
    assert found["texts"].tolist() == [b"\nx", b"", b"", b"x", b"x"] and found["text"].tolist() == [b"x"]


def test_letters_that_run_from_right_to_left_are_read_so():
    found = page_layout.page([word("שלום", 0.16, 0.1), word("עולם", 0.10, 0.1)], SHAPE)
    assert found["text"][0].decode() == "שלום עולם"


corner = st.floats(0, 0.95)
side = st.floats(0, 0.05)
words = st.lists(st.builds(word, st.text("ab", max_size=3), corner, corner, side, side), max_size=20)


@given(words, st.integers(1, 3000), st.integers(1, 3000))
def test_every_word_appears_once_inside_its_line_and_the_block(words, height, width):
    found = page_layout.page(words, (height, width))
    rows = np.flatnonzero(found["class_ids"] == page_layout.WORD)
    assert sorted(found["texts"][rows]) == sorted(w.text.encode() for w in words)
    for row in np.flatnonzero(found["parents"] >= 0):
        parent = found["parents"][row]
        assert found["class_ids"][parent] == found["class_ids"][row] - 1
        assert (found["boxes"][row, :2] >= found["boxes"][parent, :2]).all()
        assert (found["boxes"][row, 2:] <= found["boxes"][parent, 2:]).all()
