"""A region in the place of the picture: the pixels are the part's, the coordinates lead back into the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.images import regions
from tritonvision.python_backend.images.resize import RULES

PICTURE = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
SIZE = {"height": 64, "width": 64}


def test_without_a_region_the_rule_sees_the_picture():
    pixels, geometry = regions.apply(RULES["letterbox"], PICTURE, None, SIZE)
    whole, same = RULES["letterbox"](PICTURE, **SIZE)
    np.testing.assert_array_equal(pixels, whole)
    assert geometry == same


@pytest.mark.parametrize("rule", ["letterbox", "stretch"])
@settings(deadline=None)
@given(
    x=st.integers(10, 150), y=st.integers(10, 80), width=st.integers(1, 60), height=st.integers(1, 60),
)  # fmt: skip
def test_the_corners_of_a_region_lead_back_to_where_it_lies_in_the_picture(rule, x, y, width, height):
    left, top, right, bottom = regions.window([x, y, width, height], *PICTURE.shape[:2])
    part = np.ascontiguousarray(PICTURE[top:bottom, left:right])
    pixels, geometry = regions.apply(RULES[rule], PICTURE, [x, y, width, height], SIZE)
    wanted, alone = RULES[rule](part, **SIZE)
    np.testing.assert_array_equal(pixels, wanted)
    assert (geometry.width, geometry.height) == (160, 90)
    gain, offset = np.array([alone.gain_x, alone.gain_y]), np.array([alone.offset_x, alone.offset_y])
    corners = (np.array([[0, 0], [right - left, bottom - top]]) * gain + offset).astype(np.float32)
    np.testing.assert_allclose(geometry.to_picture(corners), [[left, top], [right, bottom]], atol=0.01)


@settings(deadline=None)
@given(
    x=st.floats(-50, 250), y=st.floats(-50, 150), width=st.floats(0.001, 300), height=st.floats(0.001, 300),
)  # fmt: skip
def test_a_window_is_the_whole_pixels_of_a_region_and_has_one_at_least(x, y, width, height):
    outside = x + width / 2 <= 0 or x - width / 2 >= 160 or y + height / 2 <= 0 or y - height / 2 >= 90
    if outside:
        with pytest.raises(InvalidParameter, match="outside the picture"):
            regions.window([x, y, width, height], 90, 160)
        return
    left, top, right, bottom = regions.window([x, y, width, height], 90, 160)
    assert 0 <= left < right <= 160 and 0 <= top < bottom <= 90
    for begin, end, centre, length, limit in ((left, right, x, width, 160), (top, bottom, y, height, 90)):
        assert begin == min(round(max(centre - length / 2, 0)), limit - 1)
        assert end == max(round(min(centre + length / 2, limit)), begin + 1)


@pytest.mark.parametrize("region", [(5, 5, 0, 4), (5, 5, 4, -1)])
def test_a_region_of_no_size_is_refused(region):
    with pytest.raises(InvalidParameter, match="above zero"):
        regions.window(region, 90, 160)
