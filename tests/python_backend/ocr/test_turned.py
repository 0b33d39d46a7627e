"""Words at an angle: the angle of a page, upright boxes of its words, and boxes around several."""

import cv2
import numpy as np
import pytest

from tritonvision.python_backend.ocr import turned

SHAPE = (1000, 800)


def rotated(angle, boxes=((0.2, 0.3, 0.3, 0.33), (0.35, 0.3, 0.5, 0.33), (0.2, 0.4, 0.4, 0.43))):
    """Words of a level page that was turned clockwise about its middle; float64 ``[n, 4, 2]`` fractions."""
    matrix = cv2.getRotationMatrix2D((400, 500), -angle, 1.0)
    found = []
    for left, top, right, bottom in boxes:
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) * SHAPE[::-1]
        found.append(np.column_stack([corners, np.ones(4)]) @ matrix.T / SHAPE[::-1])
    return np.array(found)


@pytest.mark.parametrize("angle", [-30, -2, 0, 5, 40])
def test_a_turned_page_is_levelled(angle):
    words = rotated(angle)
    assert turned.angle_of(words * SHAPE[::-1]) == pytest.approx(-angle, abs=1e-6)
    np.testing.assert_allclose(
        turned.upright(words, SHAPE), turned.upright(rotated(0), SHAPE), atol=1e-6
    )  # fmt: skip


def test_lines_are_levelled_by_the_angle_of_the_words():
    words = rotated(20)
    lines = np.array([turned.around(words[:2]), turned.around(words[2:])])
    apart, in_order = turned.deskewed(lines, words, SHAPE)
    np.testing.assert_allclose(apart, in_order, atol=1e-6)  # nothing remained
    first, second = apart
    assert first[3] < second[1] and abs((first[3] - first[1]) - 0.03) < 0.01


def test_the_box_around_words_is_turned_as_they_are_and_begins_at_the_upper_left():
    word = np.array([[0.1, 0.1], [0.2, 0.2], [0.18, 0.22], [0.08, 0.12]])
    around = turned.around([word, word + 0.2])
    assert around[0].sum() == around.sum(axis=1).min()
    edges = np.linalg.norm(np.diff(around, axis=0), axis=1)
    assert edges.max() == pytest.approx(np.hypot(0.3, 0.3), abs=0.01) and edges.min() < 0.05


def test_words_without_extent_have_no_angle():
    assert turned.angle_of(np.zeros((3, 4, 2))) == 0.0
