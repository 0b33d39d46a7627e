"""Masks drawn into pictures: where they are, in the colours asked for, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from tritonvision.drawing.masks import draw_masks
from tritonvision.python_backend.masks import run_lengths
from tritonvision.results import InstancesRLEMasks

RED, GREEN = (0, 0, 255), (0, 255, 0)


@pytest.fixture
def canvas() -> np.ndarray:
    return np.full((60, 80, 3), 100, np.uint8)


def ring() -> np.ndarray:
    """A square of 20 pixels with a hole of 8."""
    patch = np.ones((20, 20), bool)
    patch[6:14, 6:14] = False
    return patch


def lengths(*patches: tuple[np.ndarray, int, int]) -> InstancesRLEMasks:
    return InstancesRLEMasks((60, 80), [run_lengths.encode(p, left, top, 60, 80, "rle") for p, left, top in patches])


def test_a_mask_is_glass_inside_and_solid_at_its_edge_and_its_hole_stays_clear(canvas):
    drawn = draw_masks(canvas, lengths((ring(), 10, 30)), [RED], 1)
    assert drawn[33, 13].tolist() == [60, 60, 162]  # 0.4 of the colour
    assert drawn[30, 20, 2] > 200 > 60 > drawn[30, 20, 0]
    assert drawn[40, 20].tolist() == [100, 100, 100]
    assert (drawn[:28] == 100).all() and (drawn[:, 35:] == 100).all()
    assert (canvas == 100).all()  # the given picture is left alone


def test_an_outline_looks_as_its_mask_does(canvas):
    full = np.ones((20, 20), bool)
    by_lengths = draw_masks(canvas, lengths((full, 10, 30)), [RED], 2)
    by_outline = draw_masks(canvas, [run_lengths.outline(full, 10, 30)], [RED], 2)
    np.testing.assert_array_equal(by_lengths, by_outline)


def test_better_instances_lie_on_top(canvas):
    full = np.ones((20, 20), bool)
    drawn = draw_masks(canvas, lengths((full, 10, 30), (full, 15, 30)), [RED, GREEN], 1)
    assert drawn[30, 20, 2] > 200 > 60 > drawn[30, 20, 1]


@pytest.mark.parametrize("nothing", [None, [], [np.empty((0, 2), np.int32)], lengths((np.zeros((3, 3), bool), 0, 0))])
def test_nothing_to_draw_leaves_the_picture_as_it_is(canvas, nothing):
    np.testing.assert_array_equal(draw_masks(canvas, nothing, [RED], 1), canvas)


@pytest.mark.parametrize("one", [lengths((np.ones((1, 1), bool), 79, 59)), [np.array([[79, 59]], np.int32)]])
def test_a_mask_of_one_pixel_in_the_corner_is_drawn(canvas, one):
    assert draw_masks(canvas, one, [RED], 1)[59, 79].tolist() == [60, 60, 162]
