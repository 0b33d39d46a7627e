"""Regions of CRAFT's maps: letters and links make one, links alone and doubtful letters none."""

import numpy as np
import pytest

from tritonvision.python_backend.ocr import craft_boxes


def maps(*rectangles, size=(60, 100)):
    """Of rectangles (channel, left, top, width, height, value)."""
    found = np.zeros((*size, 2), np.float32)
    for channel, left, top, width, height, value in rectangles:
        found[top : top + height, left : left + width, channel] = value
    return found


def test_letters_that_links_join_are_one_region_in_pixels_of_the_picture():
    linked = maps((0, 10, 20, 6, 8, 0.9), (0, 22, 20, 6, 8, 0.9), (1, 15, 21, 8, 5, 0.8))
    apart = maps((0, 10, 20, 6, 8, 0.9), (0, 22, 20, 6, 8, 0.9))
    (region,) = craft_boxes.find(linked, 1.0)
    assert len(craft_boxes.find(apart, 1.0)) == 2
    assert region.dtype == np.int32 and region[0].tolist() == region.min(axis=0).tolist()
    left, top, right, bottom = *region.min(axis=0), *region.max(axis=0)
    assert left <= 20 and top <= 40 and 54 <= right <= 70 and 54 <= bottom <= 70
    np.testing.assert_allclose(craft_boxes.find(linked, 0.5), 2 * region[None], atol=2)


@pytest.mark.parametrize("drawn", [
    maps((1, 10, 20, 20, 8, 0.9)), maps((0, 10, 20, 6, 8, 0.69)), maps((0, 10, 20, 3, 3, 0.9)), maps(),
], ids=["links alone", "doubtful letters", "a spot", "nothing"])  # fmt: skip
def test_what_is_no_region(drawn):
    assert craft_boxes.find(drawn, 1.0).shape == (0, 4, 2)


def test_a_region_at_the_edge_stays_on_the_map():
    (region,) = craft_boxes.find(maps((0, 0, 0, 10, 6, 1.0), (0, 0, 50, 1, 1, 1.0)), 1.0)
    assert region.min() >= 0


def test_pages_are_padded_to_whole_strides_and_made_smaller_only():
    page = np.full((50, 70, 3), 9, np.uint8)
    pixels, factor = craft_boxes.fit(page, 2560)
    assert pixels.shape == (64, 96, 3) and factor == 1.0
    assert (pixels[:50, :70] == 9).all() and not pixels[50:].any() and not pixels[:, 70:].any()
    pixels, factor = craft_boxes.fit(page, 35)
    assert pixels.shape == (32, 64, 3) and factor == 0.5
