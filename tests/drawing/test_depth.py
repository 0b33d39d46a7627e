import cv2
import numpy as np
import pytest

from tritonvision.drawing.depth import colours, draw_depth
from tritonvision.results import DepthMap


def lightness(picture):
    return cv2.cvtColor(picture, cv2.COLOR_BGR2LAB)[..., 0].astype(int)


def ramp(height, width):
    return np.tile(np.linspace(3, 9, width, dtype=np.float32), (height, 1))


def test_equal_steps_of_depth_are_equal_steps_of_brightness():
    steps = np.diff(lightness(colours(np.linspace(0, 1, 9, dtype=np.float32)[None]))[0])
    assert steps.min() > 0.6 * steps.max() > 0


def test_near_is_bright_whichever_way_the_map_counts():
    canvas = np.zeros((40, 64, 3), np.uint8)
    inverse = lightness(draw_depth(canvas, DepthMap(ramp(40, 64), "inverse-depth")))[0]
    metric = lightness(draw_depth(canvas, DepthMap(ramp(40, 64), "depth")))[0]
    assert inverse[-1] > inverse[32] > inverse[0]
    assert metric[-1] < metric[32] < metric[0]


def test_the_picture_given_stays_as_it_was():
    canvas = np.full((240, 320, 3), 77, np.uint8)
    draw_depth(canvas, DepthMap(ramp(240, 320), "inverse-depth"))
    assert (canvas == 77).all()


def test_a_bar_says_what_the_colours_mean_in_the_lower_left_corner():
    canvas = np.zeros((240, 320, 3), np.uint8)
    drawn = draw_depth(canvas, DepthMap(ramp(240, 320), "inverse-depth"))
    touched = (drawn != colours((ramp(240, 320) - 3) / 6)).any(axis=2)
    rows, columns = np.nonzero(touched)
    assert rows.min() > 180 and columns.max() < 200
    assert (drawn[touched].min(axis=1) > 160).any()  # letters


def test_a_map_of_one_value_is_all_far():
    drawn = draw_depth(np.zeros((20, 20, 3), np.uint8), DepthMap(np.full((20, 20), 4, np.float32), "inverse-depth"))
    assert (drawn == colours(np.zeros((1, 1), np.float32))).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (30, 90), (2000, 3000)])
def test_any_size_of_picture_is_drawn(shape):
    drawn = draw_depth(np.zeros((*shape, 3), np.uint8), DepthMap(ramp(*shape), "inverse-depth"))
    assert drawn.shape == (*shape, 3) and drawn.dtype == np.uint8
