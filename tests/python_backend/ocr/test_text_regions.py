"""Words out of a map of probabilities: every bright region one box, grown by what training had it leave out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.python_backend.ocr import text_regions


def drawn(*rectangles, size=(64, 96), value=0.9):
    """A map with bright rectangles (left, top, right, bottom)."""
    found = np.zeros(size, np.float32)
    for left, top, right, bottom in rectangles:
        found[top:bottom, left:right] = value
    return found


def pixels(boxes, size=(64, 96)):
    return boxes * (size[1], size[0], size[1], size[0])


def test_a_region_grows_by_its_area_over_its_perimeter_on_every_side():
    (box,) = pixels(text_regions.find(drawn((20, 20, 60, 30))))
    grown = 40 * 10 * 1.5 / (2 * (40 + 10))  # 6 pixels; a box counts its last pixel, too
    np.testing.assert_allclose(box, (20 - grown, 20 - grown, 60 + grown + 1, 30 + grown + 1), atol=1e-6)


def test_every_region_is_one_box_and_specks_and_faint_ones_are_none():
    probabilities = drawn((5, 5, 25, 12), (50, 5, 80, 12), (5, 40, 7, 42))
    probabilities[45:60, 40:80] = 0.29
    assert len(text_regions.find(probabilities)) == 2


def test_boxes_end_at_the_edge_of_the_map():
    boxes = text_regions.find(drawn((0, 0, 96, 64)))
    assert boxes.shape == (1, 4) and boxes.min() >= 0 and boxes.max() <= 1


@pytest.mark.parametrize("value", [0.0, 0.2])
def test_a_map_without_text_gives_no_box(value):
    boxes = text_regions.find(np.full((32, 32), value, np.float32))
    assert boxes.shape == (0, 4) and text_regions.unpadded(boxes, 10, 20).shape == (0, 4)


sides = st.integers(1, 5000)
fractions = st.floats(0, 1)


@given(sides, sides, fractions, fractions)
def test_unpadding_undoes_the_centred_square(height, width, x, y):
    side = max(height, width)
    square = [[((x - 0.5) * width / side + 0.5), ((y - 0.5) * height / side + 0.5)] * 2]
    np.testing.assert_allclose(text_regions.unpadded(np.array(square), height, width), [[x, y] * 2], atol=1e-6)
