"""Resize rules: what holds for every picture. Bit-equality with the authors' transforms stands in tests/exporters."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.python_backend.images import resize

sides = st.integers(1, 400)


def gradient(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) % 256], axis=2).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides, rule=st.sampled_from(sorted(resize.RULES.keys() - resize.DYNAMIC)))
def test_every_rule_gives_uint8_pixels_of_the_asked_size(height, width, rule):
    pixels, geometry = resize.RULES[rule](gradient(height, width), 64, 64)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert (geometry.width, geometry.height) == (width, height)


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides)
def test_letterbox_centres_the_picture_on_grey(height, width):
    pixels, geometry = resize.letterbox(np.full((height, width, 3), 200, np.uint8), 128, 128)
    ys, xs = np.nonzero((pixels == 200).all(axis=2))
    assert (xs.min(), ys.min()) == (geometry.offset_x, geometry.offset_y)
    assert abs(xs.min() - (127 - xs.max())) <= 1
    assert abs(ys.min() - (127 - ys.max())) <= 1
    assert ((pixels == 200) | (pixels == 114)).all()


@settings(max_examples=60, deadline=None)
@given(height=sides, width=sides)
def test_the_corners_of_a_letterboxed_picture_lead_back_to_the_picture(height, width):
    _, geometry = resize.letterbox(gradient(height, width), 128, 128)
    low = np.float32([geometry.offset_x, geometry.offset_y])
    high = low + np.float32([geometry.gain_x * width, geometry.gain_y * height])
    np.testing.assert_allclose(geometry.to_picture(np.stack([low, high])), [[0, 0], [width, height]], atol=1e-3)


def test_a_picture_of_the_networks_size_is_not_touched():
    picture = gradient(96, 96)
    pixels, _ = resize.letterbox(picture, 96, 96)
    assert np.array_equal(pixels, picture)
    assert pixels is not picture


def test_geometry_survives_the_wire():
    geometry = resize.Geometry(1279, 33, -3.25, 17.0, 0.1, 3.0)
    assert resize.Geometry.from_array(geometry.to_array()) == geometry


@pytest.mark.parametrize("shape", [(1, 3_000_000), (3_000_000, 1)])
@pytest.mark.parametrize("rule", ["letterbox", "crop"])
def test_a_strip_a_million_times_longer_than_wide_costs_no_more_than_a_picture(rule, shape):
    started = time.process_time()
    pixels, _ = resize.RULES[rule](np.full((*shape, 3), 77, np.uint8), 224, 224)
    assert time.process_time() - started < 2
    assert (pixels == 77).any()
