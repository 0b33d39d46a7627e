"""The size at which a picture is read."""

import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.grounding.smart_resize import read_size, smart_resize

BOUNDS = 28, 56 * 56, 1280 * 28 * 28


@pytest.mark.parametrize(("size", "read"), [
    ((480, 640), (476, 644)), ((1080, 1920), (728, 1316)), ((10, 300), (28, 308)), ((30, 30), (56, 56)),
    ((42, 70), (56, 56)),  # halves are rounded to even: 1.5 and 2.5 blocks
    ((4000, 21), (4004, 28)),
])  # fmt: skip
def test_sides_are_multiples_and_their_product_is_bounded(size, read):
    assert smart_resize(*size, *BOUNDS) == read


def test_a_sliver_is_refused():
    with pytest.raises(InvalidParameter, match="2010 x 10 pixels is too narrow"):
        smart_resize(10, 2010, *BOUNDS)


def test_a_picture_of_low_detail_is_as_large_as_a_square_of_512_pixels():
    assert read_size((1080, 1920), BOUNDS) == smart_resize(1080, 1920, *BOUNDS)
    tall, wide = read_size((1080, 1920), BOUNDS, "low")
    assert tall * wide <= 512 * 512 and (tall, wide) == (364, 672)
    assert read_size((300, 300), BOUNDS, "auto") == read_size((300, 300), BOUNDS, "high") == (308, 308)
