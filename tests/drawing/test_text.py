"""Pages and answers drawn: words framed and readable beside themselves, answers whole on their panel, any letters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageFont

from tritonvision.drawing.text import draw_line, draw_page, wrapped
from tritonvision.results import Detections

WHITE = np.full((200, 300, 3), 255, np.uint8)


def page(*words, line=(20, 80, 200, 110)):
    """A block and a line with these words: (text, left, right)."""
    boxes = [line, line, *((left, line[1], right, line[3]) for _, left, right in words)]
    texts = ["", "", *(text for text, _, _ in words)]
    parents = [-1, 0, *(1 for _ in words)]
    ids = np.array([0, 1] + [2] * len(words), np.int32)
    more = [{"text": text, "parent": parent} for text, parent in zip(texts, parents, strict=True)]
    return Detections(np.array(boxes, np.float32), ids, np.ones(len(ids), np.float32), {}, more)


def test_a_word_is_framed_on_a_tinted_line_and_read_above():
    found = draw_page(WHITE, "", page(("Hello", 20, 90)))
    assert (WHITE == 255).all()  # a copy was drawn into
    line, frame, above = found[85:105, 120:195], found[85:105, [20, 89]], found[68:80, 20:50]
    assert 200 < line.mean() < 255 and line.std(axis=(0, 1)).max() < 1
    assert frame.mean() < line.mean() - 30
    assert above.min() < 80 and above.max() > 200  # light letters on a dark plate
    assert (found[120:] == 255).all() and (found[:60] == 255).all()


def test_what_lies_below_stays_visible():
    picture = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    inside = (slice(85, 105), slice(100, 195))
    found = draw_page(picture, "", page(("a", 20, 90)))[inside]
    assert np.corrcoef(found.ravel(), picture[inside].ravel())[0, 1] > 0.95


def test_a_reading_too_long_for_its_word_leaves_the_next_one_alone():
    one = draw_page(WHITE, "", page(("", 20, 90), ("b", 100, 200)))
    other = draw_page(WHITE, "", page(("M" * 60, 20, 90), ("b", 100, 200)))
    assert (one[:, 95:] == other[:, 95:]).all() and (one != other).any()


def test_a_line_that_is_not_divided_is_framed_along_its_corners_and_read_above():
    corners = [[20, 90], [200, 120], [196, 145], [16, 115]]
    more = [{"text": "Hello", "parent": -1, "polygon": corners}]
    box, line = np.array([[16, 90, 200, 145]], np.float32), np.array([1], np.int32)
    one = Detections(box, line, np.ones(1, np.float32), {}, more)
    found = draw_page(WHITE, "", one).astype(int)
    inside, on_the_edge, beside = found[117, 105], found[105, 110], found[92, 190]
    assert on_the_edge.min() < inside.min() - 30 and (beside == inside).all()
    assert found[78:90, 20:50].min() < 80


def test_a_page_without_words_draws_nothing():
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32), {}, [])
    assert (draw_page(WHITE, "", empty) == WHITE).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (2000, 7)])
def test_any_picture_can_carry_a_page_and_an_answer(size):
    canvas = np.zeros((*size, 3), np.uint8)
    assert draw_page(canvas, "", page(("x", 0, 1), line=(0, 0, 1, 1))).shape == canvas.shape
    found = draw_line(canvas, "Paid in full")
    assert found.shape[0] > size[0] and found.shape[1] == max(size[1], 240) and found[size[0] :].max() > 200


def test_an_answer_stands_below_its_picture():
    picture = np.random.default_rng(0).integers(0, 256, (90, 400, 3), dtype=np.uint8)
    one, more = draw_line(picture, "one line"), draw_line(picture, "one line\nanother\n\nand one")
    assert (one[:90] == picture).all() and (more[:90] == picture).all() and len(more) > len(one) > 90


def test_an_endless_answer_ends():
    assert len(draw_line(WHITE, "word " * 5000)) < 2000


font = ImageFont.load_default(14)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120), st.integers(20, 300))
def test_wrapping_keeps_every_letter_and_the_width(text, width):
    lines = wrapped(text, width, font, 1000)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


class Measured:
    """The font, and how many letters it was asked to measure."""

    def __init__(self):
        self.letters = 0

    def getlength(self, text):
        self.letters += len(text)
        return font.getlength(text)


def test_a_text_without_a_blank_costs_no_more_than_what_is_drawn_of_it():
    measured = Measured()
    lines = wrapped("<seg007>" * 50_000, 300, measured, 61)
    assert len(lines) == 61 and measured.letters < 100 * len("".join(lines))
    assert all(font.getlength(line) <= 300 < font.getlength(f"{line}<") for line in lines[:60])
