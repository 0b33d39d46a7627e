"""The size at which a picture is read."""

import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.grounding.smart_resize import smart_resize

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
