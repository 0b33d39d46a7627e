"""Regions to lines: neighbours of one row and one height are joined, turned ones and small ones are not."""

import numpy as np

from tritonvision.python_backend.ocr import craft_lines


def quads(*boxes):
    """Of (left, top, width, height, rise)."""
    return np.array([
        [[x, y], [x + w, y - rise], [x + w, y + h - rise], [x, y + h]] for x, y, w, h, rise in boxes
    ], np.int32).reshape(-1, 4, 2)  # fmt: skip


def test_neighbours_of_one_row_are_joined_with_a_margin():
    (line,), turned = craft_lines.group(quads((10, 20, 40, 20, 0), (55, 22, 40, 20, 0)))
    assert line == (8, 97, 18, 44) and turned == []


def test_a_wide_gap_another_row_and_another_height_part_lines():
    level, _ = craft_lines.group(quads(
        (10, 20, 40, 20, 0), (70, 20, 40, 20, 0), (112, 10, 60, 40, 0), (10, 60, 40, 20, 0),
    ))  # fmt: skip
    assert [box.left for box in level] == [8, 68, 108, 8] and [box.top for box in level] == [18, 18, 6, 58]


def test_a_turned_region_is_a_line_by_itself_a_little_wider():
    level, (quad,) = craft_lines.group(quads((10, 60, 100, 20, 30)))
    assert level == [] and quad[0, 0] < 10 and quad[1, 0] > 110 and quad[1, 1] < 30 and quad[3, 1] > 80


def test_regions_of_a_few_pixels_are_left_out():
    assert craft_lines.group(quads((10, 20, 12, 12, 0), (100, 100, 12, 12, 5))) == ([], [])
    assert craft_lines.group(quads()) == ([], [])
