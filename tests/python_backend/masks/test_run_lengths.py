"""Masks on a box stand for masks of the whole picture: run lengths are COCO's own, outlines those of OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tritonvision.python_backend.masks import run_lengths


@st.composite
def patches(draw):
    """A random mask on a box somewhere in a picture, and the mask of the whole picture."""
    height, width = draw(st.integers(1, 45)), draw(st.integers(1, 45))
    h, w = draw(st.integers(1, height)), draw(st.integers(1, width))
    top, left = draw(st.integers(0, height - h)), draw(st.integers(0, width - w))
    share = draw(st.sampled_from([0.0, 0.03, 0.5, 0.97, 1.0]))
    patch = np.random.default_rng(draw(st.integers(0, 10_000))).random((h, w)) < share
    if draw(st.booleans()):
        patch = np.asfortranarray(patch)
    whole = np.zeros((height, width), np.uint8)
    whole[top : top + h, left : left + w] = patch
    return patch, left, top, whole


@settings(max_examples=300, deadline=None)
@given(patches())
def test_run_lengths_are_those_coco_gives_the_whole_mask(case):
    patch, left, top, whole = case
    counts = run_lengths.encode(patch, left, top, *whole.shape, "rle")
    assert counts == coco.encode(np.asfortranarray(whole))["counts"]
    assert run_lengths.run_lengths(patch, left, top, *whole.shape).sum() == whole.size


@settings(max_examples=200, deadline=None)
@given(patches())
def test_the_outline_is_the_contour_of_the_whole_mask_with_the_most_vertices(case):
    patch, left, top, whole = case
    contours, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    wanted = max(contours, key=len).reshape(-1, 2) if contours else np.empty((0, 2), np.int32)
    found = np.frombuffer(run_lengths.encode(patch, left, top, *whole.shape, "polygon"), "<i4").reshape(-1, 2)
    np.testing.assert_array_equal(found, wanted)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=30))
def test_lengths_are_compressed_as_coco_does_it(lengths):
    """Of five letters at most: pycocotools reserves six for each and none for the end, and writes past its buffer."""
    wanted = coco.frPyObjects({"size": [1, 1], "counts": lengths}, 1, 1)["counts"]
    assert run_lengths.compress(np.array(lengths)) == wanted


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=30))
def test_lengths_of_any_size_are_read_back(lengths):
    assert lengths_in(run_lengths.compress(np.array(lengths))) == lengths


def lengths_in(text: bytes) -> list[int]:
    """The lengths of COCO's compressed form, as its ``rleFrString`` reads them."""
    found: list[int] = []
    value = shift = 0
    for letter in text:
        code = letter - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:  # the last letter of a length
            value -= (1 << shift) if code & 0x10 else 0
            found.append(value + (found[-2] if len(found) > 2 else 0))
            value = shift = 0
    return found


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0)])
def test_a_box_without_a_pixel_has_an_empty_mask(shape):
    nothing = np.zeros(shape, bool)
    assert coco.area({"size": [7, 9], "counts": run_lengths.encode(nothing, 3, 2, 7, 9, "rle")}) == 0
    assert run_lengths.encode(nothing, 3, 2, 7, 9, "polygon") == b""


def test_a_picture_of_one_pixel_has_masks_too():
    one = np.ones((1, 1), bool)
    assert coco.decode({"size": [1, 1], "counts": run_lengths.encode(one, 0, 0, 1, 1, "rle")}).tolist() == [[1]]
    assert np.frombuffer(run_lengths.encode(one, 0, 0, 1, 1, "polygon"), "<i4").tolist() == [0, 0]


def test_a_mask_of_a_large_picture_costs_what_its_box_costs():
    """A picture of 5 terapixels could not be held by any machine of ours."""
    counts = run_lengths.encode(np.ones((3, 2), bool), 1_999_998, 2_499_997, 2_500_000, 2_000_000, "rle")
    assert len(counts) < 40
