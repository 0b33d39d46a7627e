"""The dense map's way back to the picture, and what 16 bits keep of it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.errors import InvalidPicture
from tritonvision.python_backend.images import resize
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.postprocess import dense_map


def post(values, height, width):
    geometry = Geometry(width, height, 0, 0, values.shape[1] / width, values.shape[0] / height)
    return dense_map.post({"map": values}, geometry, {"auto_orient": True})


def decoded(answer):
    low, high = answer["range"].astype(np.float64)
    return low + answer["map"] * ((high - low) / 65535)


def bicubic(values, height, width):
    """torch's ``interpolate(mode="bicubic", align_corners=False)`` in float64: two sparse matrices."""

    def weights(target, source):
        places = (np.arange(target) + 0.5) * source / target - 0.5
        first = np.floor(places).astype(int)
        matrix = np.zeros((target, source))
        for tap in range(-1, 3):
            far = np.abs(places - first - tap)
            weight = np.where(
                far <= 1, 1.25 * far**3 - 2.25 * far**2 + 1, -0.75 * (far**3 - 5 * far**2 + 8 * far - 4)
            )
            np.add.at(matrix, (np.arange(target), np.clip(first + tap, 0, source - 1)), weight)
        return matrix

    return weights(height, values.shape[0]) @ values.astype(np.float64) @ weights(width, values.shape[1]).T


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=150, deadline=None)
def test_the_map_is_the_bicubic_one_at_the_pictures_size(rows, columns, height, width, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 20, (rows, columns)).astype(np.float32)
    values = cv2.resize(coarse, (columns * 14, rows * 14), interpolation=cv2.INTER_LINEAR)
    answer, want = post(values, height, width), bicubic(values, height, width)
    assert answer["map"].dtype == np.uint16 and answer["map"].shape == (height, width)
    assert np.abs(decoded(answer) - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (40, 160), (97, 131), (518, 518), (1440, 2049)])
def test_noise_comes_back_within_a_thousandth_at_sizes_far_from_the_networks(size):
    values = np.random.default_rng(0).uniform(0, 10, (518, 700)).astype(np.float32)
    want = bicubic(values, *size)
    assert np.abs(decoded(post(values, *size)) - want).max() <= 2e-4 * np.abs(want).max()


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_sixteen_bits_keep_every_value_to_half_a_step_of_the_range(low, span, seed):
    values = (low + span * np.random.default_rng(seed).random((14, 28))).astype(np.float32)
    answer = post(values, 14, 28)
    step = (float(values.max()) - float(values.min())) / 65535
    float32 = np.spacing(np.float32(abs(low) + span))
    assert np.abs(decoded(answer) - values).max() <= 0.5 * step + 4 * float32
    assert {0, 65535} <= set(answer["map"].ravel().tolist())
    assert answer["range"].tolist() == [values.min(), values.max()]


@pytest.mark.parametrize("value", [0.0, 7.25, -3.0])
def test_a_map_of_one_value_is_zeros_and_its_range_has_no_width(value):
    answer = post(np.full((28, 14), value, np.float32), 50, 31)
    assert not answer["map"].any()
    assert answer["range"].tolist() == [value, value]


def test_a_request_leaves_the_networks_map_as_it_was():
    values = np.random.default_rng(0).random((14, 14), dtype=np.float32)
    before = values.copy()
    post(values, 14, 14)
    assert np.array_equal(values, before)


# ---- the rule before it ----------------------------------------------------------------------------------------------


@given(st.integers(1, 900), st.integers(1, 900))
@settings(max_examples=60, deadline=None)
def test_pixels_are_multiples_within_four_areas_or_the_picture_is_refused(height, width):
    picture = np.full((height, width, 3), 90, np.uint8)
    try:
        pixels, geometry = resize.multiple(picture, 518, 518, 14)
    except InvalidPicture:
        assert max(height, width) > 2 * min(height, width)
        return
    assert not any(side % 14 for side in pixels.shape[:2])
    assert pixels.shape[0] * pixels.shape[1] <= 4 * 518 * 518
    assert 518 in pixels.shape[:2]
    assert abs(geometry.gain_x * width - pixels.shape[1]) < 1e-9


@pytest.mark.parametrize("height, width", [(1, 5000), (5000, 1), (300, 6000), (1, 16_000_000), (518, 40_000)])
def test_a_strip_that_would_take_all_memory_is_refused_before_it_is_resized(height, width):
    with pytest.raises(InvalidPicture, match="long and narrow"):
        resize.multiple(np.broadcast_to(np.uint8(0), (height, width, 3)), 518, 518, 14)
