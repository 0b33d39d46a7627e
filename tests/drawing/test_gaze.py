"""Arrows of gaze: where they begin, which way they point, and that any picture can carry them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonvision.drawing.gaze import draw_gaze, ends
from tritonvision.results import Detections, L2CSGazeDetection

GREY = np.full((240, 320, 3), 128, np.uint8)
BOX = np.array([100, 60, 160, 120], np.float32)


def faces(*boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections(boxes, np.zeros(len(boxes), np.int32), np.ones(len(boxes), np.float32))


def gaze(*degrees):
    yaw, pitch = np.radians(np.array(degrees, np.float32).reshape(-1, 2)).T
    return L2CSGazeDetection(yaw, pitch)


def changed(after, before=GREY):
    assert after.shape == before.shape and after.dtype == np.uint8
    return (before != after).any(axis=2)


@pytest.mark.parametrize(
    "yaw, pitch, right, down",
    [(30, 0, -1, 0), (-30, 0, 1, 0), (0, 30, 0, -1), (0, -30, 0, 1), (45, 30, -1, -1), (-45, -30, 1, 1), (0, 0, 0, 0)],
)
def test_positive_yaw_points_to_the_pictures_left_and_positive_pitch_up(yaw, pitch, right, down):
    (x, y), (to_x, to_y) = ends(BOX, math.radians(yaw), math.radians(pitch))
    assert (x, y) == (130, 90)
    assert (np.sign(round(to_x - x, 9)), np.sign(round(to_y - y, 9))) == (right, down)


def test_the_arrow_is_the_direction_of_gaze_in_the_plane_of_the_picture():
    """Yaw 90 degrees lies in the plane whole; at pitch 60 only its half is left of that."""
    assert ends(BOX, math.radians(90), 0)[1] == pytest.approx((70, 90))
    assert ends(BOX, math.radians(90), math.radians(60))[1] == pytest.approx((100, 90 - 60 * math.sin(math.pi / 3)))


@given(st.floats(-math.pi, math.pi), st.floats(-math.pi, math.pi))
def test_no_arrow_is_longer_than_its_face(yaw, pitch):
    start, end = ends(BOX, yaw, pitch)
    assert math.dist(start, end) <= 60 * (1 + 1e-9)


def test_the_arrow_is_drawn_on_the_side_it_points_to():
    for yaw, drawn, free in ((60, slice(85, 115), slice(145, 175)), (-60, slice(145, 175), slice(85, 115))):
        touched = changed(draw_gaze(GREY, faces(BOX), gaze((yaw, 0))))[88:93]
        columns = np.ones(320, bool)
        columns[98:103] = columns[158:163] = False  # the box itself
        touched = touched & columns
        assert touched[:, drawn].any() and not touched[:, free].any()


def test_the_picture_given_stays_as_it_was_and_no_face_changes_nothing():
    picture = GREY.copy()
    draw_gaze(picture, faces(BOX), gaze((10, 10)))
    assert np.array_equal(picture, GREY)
    assert not changed(draw_gaze(GREY, faces(), gaze())).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (1500, 2000)])
def test_any_size_of_picture_is_drawn_on(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    draw_gaze(picture, faces((0, 0, shape[1], shape[0])), gaze((40, -20)))


def test_faces_of_no_size_and_at_the_edge_are_drawn():
    boxes = ((0, 0, 0, 0), (319.5, 239.5, 320, 240))
    draw_gaze(GREY, faces(*boxes), gaze((170, 80), (-170, -80)))
