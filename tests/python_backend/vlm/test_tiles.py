"""Tiles nearest to a picture's shape: as many as it fills, in reading order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision.python_backend.vlm import tiles

SIDES = st.integers(1, 5000)


@given(height=SIDES, width=SIDES, least=st.integers(1, 9))
def test_no_other_arrangement_is_nearer_to_the_picture(height, width, least):
    rows, columns = tiles.grid(height, width, 448, least, 12)
    assert least <= rows * columns <= 12
    away = abs(width / height - columns / rows)
    assert all(
        away <= abs(width / height - across / down)
        for across in range(1, 13) for down in range(1, 13) if least <= across * down <= 12
    )  # fmt: skip


@pytest.mark.parametrize(("size", "grid"), [
    ((448, 448), (1, 1)), ((449, 449), (1, 1)), ((634, 634), (2, 2)), ((633, 633), (1, 1)), ((300, 300), (1, 1)),
    ((1000, 1000), (3, 3)), ((900, 300), (3, 1)), ((300, 900), (1, 3)), ((1, 5000), (1, 12)), ((300, 400), (3, 4)),
])  # fmt: skip
def test_of_equally_near_arrangements_it_is_the_largest_that_is_more_than_half_filled(size, grid):
    assert tiles.grid(*size, 448, 1, 12) == grid


def test_tiles_stand_in_reading_order_and_the_whole_is_last():
    numbers = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, 32, 0), 32, 1)
    cut = tiles.cut(np.repeat(numbers[..., None], 3, 2), 32, 2, 3)
    assert cut.shape == (7, 32, 32, 3) and cut[:6, 16, 16, 0].tolist() == [0, 40, 80, 120, 160, 200]
    assert cut[6, 8, 5, 0] == 0 and cut[6, 24, 26, 0] == 200
    assert len(cut) == tiles.count(2, 3)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 4), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_tiles_put_together_again_are_the_picture(rows, columns, seed):
    side = 16
    picture = np.random.default_rng(seed).integers(0, 256, (rows * side, columns * side, 3), dtype=np.uint8)
    cut = tiles.cut(picture, side, rows, columns)[: rows * columns]
    lines = cut.reshape(rows, columns, side, side, 3)
    np.testing.assert_array_equal(lines.transpose(0, 2, 1, 3, 4).reshape(picture.shape), picture)


def test_one_tile_is_the_whole():
    picture = np.full((9, 7, 3), 5, np.uint8)
    assert tiles.cut(picture, 32, 1, 1).shape == (1, 32, 32, 3) and tiles.count(1, 1) == 1
