"""Lines cut out of a page: their height, their padding, and what of them is on the page at all."""

import numpy as np
import pytest

from tritonvision.python_backend.ocr import grey_lines
from tritonvision.python_backend.ocr.craft_lines import Upright

PAGE = np.random.default_rng(0).integers(0, 256, (100, 200), np.uint8)


@pytest.mark.parametrize(("box", "shape", "width"), [
    ((0, 100, 0, 32), (64, 200), 256), ((0, 128, 0, 32), (64, 256), 256), ((10, 30, 0, 100), (320, 64), 320),
])  # fmt: skip
def test_the_shorter_side_becomes_64_pixels_and_the_width_whole_squares(box, shape, width):
    line = grey_lines.upright(PAGE, Upright(*box))
    assert line.pixels.shape == shape and line.width == width
    assert grey_lines.padded(line.pixels, line.width).shape == (64, width)


def test_a_line_is_padded_with_its_last_column():
    line = grey_lines.upright(PAGE, Upright(0, 100, 0, 32))
    padded = grey_lines.padded(line.pixels, 256)
    np.testing.assert_array_equal(padded[:, :200], line.pixels)
    assert (padded[:, 200:] == line.pixels[:, -1:]).all()


def test_a_box_is_cut_off_at_the_edges_of_the_page():
    line = grey_lines.upright(PAGE, Upright(-20, 40, 80, 140))
    assert line.corners.tolist() == [[0, 80], [40, 80], [40, 100], [0, 100]]
    assert grey_lines.upright(PAGE, Upright(200, 300, 0, 50)) is None


def test_a_turned_box_keeps_its_corners():
    corners = np.array([[20, 40], [80, 20], [88, 44], [28, 64]], np.float64)
    line = grey_lines.turned(PAGE, corners)
    np.testing.assert_array_equal(line.corners, corners)
    assert line.pixels.shape[0] == 64 and line.width == 192
    assert grey_lines.turned(PAGE, np.zeros((4, 2))) is None


def test_contrast_is_stretched_where_there_is_little():
    pale = (PAGE // 8 + 120).astype(np.uint8)
    assert np.ptp(grey_lines.stretched(pale)) > 2 * np.ptp(pale) and grey_lines.stretched(PAGE) is PAGE
