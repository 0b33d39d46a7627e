"""Pixels of pages and words: the aspect is kept, only black is added, words are cut out and split without a gap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonvision.python_backend.ocr import text_pixels

PHOTO = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
small = st.integers(1, 80)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (100, 30), (17, 200), (9, 9)])
def test_the_picture_lies_where_it_is_said_to_and_all_else_is_black(shape):
    picture = np.full((*shape, 3), 200, np.uint8)
    for centred in (True, False):
        found = text_pixels.fit(picture, 64, 64, centred)
        assert found.shape == (64, 64, 3) and found.dtype == np.uint8
        ys, xs = np.nonzero(found[..., 0])
        assert set(np.unique(found)) <= {0, 200}
        height, width = np.ptp(ys) + 1, np.ptp(xs) + 1
        assert max(height, width) == 64
        assert min(height, width) == int(64 * min(shape) / max(shape))
        top, left = (-(-(64 - height) // 2), -(-(64 - width) // 2)) if centred else (0, 0)
        assert (ys.min(), xs.min()) == (top, left)


@settings(deadline=None)
@given(small, small, st.integers(0, 1000))
def test_resizing_is_pillows_filter_to_a_grey_level(height, width, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = text_pixels._resize(picture, 32, 48)
    expected = np.asarray(Image.fromarray(picture).resize((48, 32), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_crops_are_the_rounded_box_and_one_pixel_more():
    crops, kept = text_pixels.crops(PHOTO, np.array([[0.1, 0.2, 0.5, 0.6], [0, 0, 1, 1], [1, 1, 1, 1]]))
    assert kept.tolist() == [True, True, False] and len(crops) == 2
    np.testing.assert_array_equal(crops[0], PHOTO[8:25, 6:31])
    np.testing.assert_array_equal(crops[1], PHOTO)


def test_no_boxes_give_no_crops():
    crops, kept = text_pixels.crops(PHOTO, np.zeros((0, 4)))
    assert crops == [] and kept.shape == (0,)


@given(st.integers(1, 20), st.integers(1, 400))
def test_pieces_cover_a_wide_word_and_overlap(height, width):
    word = np.arange(width, dtype=np.int32)[None, :, None].repeat(height, 0).repeat(3, 2)
    pieces = text_pixels.split(word)
    if width <= 8 * height:
        assert len(pieces.pictures) == 1 and pieces.pictures[0] is word and pieces.overlap == 0
        return
    starts = [int(piece[0, 0, 0]) for piece in pieces.pictures]
    ends = [int(piece[0, -1, 0]) for piece in pieces.pictures]
    assert starts[0] == 0 and ends[-1] == width - 1
    assert {piece.shape[1] for piece in pieces.pictures} == {6 * height}
    assert all(end >= start for end, start in zip(ends, starts[1:], strict=False))
    assert pieces.overlap == pytest.approx((ends[-2] + 1 - starts[-1]) / (6 * height))
