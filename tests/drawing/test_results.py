import numpy as np
import pytest

from tritonvision.drawing.results import draw
from tritonvision.drawing.text import draw_line, draw_page
from tritonvision.results import (
    ClassificationPrediction,
    Detections,
    KeyPoints,
    MultiLabelClassificationPrediction,
)

GREY = np.full((240, 320, 3), 128, np.uint8)
BOX = Detections(np.array([[60, 80, 200, 180]], np.float32), np.array([1], np.int32), np.array([0.9], np.float32))
POINTS = KeyPoints(np.array([[[100, 120], [150, 140]]], np.float32), np.array([1]), np.array([[1.0, 0.0]], np.float32))
LABELS = ("cat", "dog")


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    assert after.shape == before.shape and after.dtype == np.uint8
    return (before != after).any(axis=2)


def test_the_picture_given_stays_as_it_was():
    picture = GREY.copy()
    draw(picture, BOX, LABELS)
    assert np.array_equal(picture, GREY)


def test_a_box_is_drawn_where_it_is_and_its_inside_stays_visible():
    touched = changed(GREY, draw(GREY, BOX, LABELS))
    assert touched[80, 60:200].mean() > 0.9 and touched[80:180, 200].mean() > 0.9
    assert not touched[90:170, 70:190].any()


def test_a_box_without_an_extent_is_a_dot():
    point = Detections(np.array([[100, 120, 100, 120]], np.float32), np.array([0], np.int32), np.ones(1, np.float32))
    touched = changed(GREY, draw(GREY, point, LABELS, names=False))
    assert touched[118:123, 98:103].all() and not touched[:100].any() and not touched[:, 140:].any()


def test_only_key_points_the_model_is_sure_of_are_drawn():
    without = draw(GREY, BOX, LABELS)
    touched = changed(without, draw(GREY, (POINTS, BOX), LABELS))
    assert touched[120, 100] and not touched[140, 150]


def test_a_legend_names_the_key_points():
    points_only = draw(GREY, (POINTS, BOX), LABELS)
    touched = changed(points_only, draw(GREY, (POINTS, BOX), LABELS, ("eye", "nose")))
    assert touched.any() and not touched[:160].any()


@pytest.mark.parametrize(
    "result",
    [
        ClassificationPrediction(np.array([1]), np.array([[0.2, 0.8]], np.float32)),
        MultiLabelClassificationPrediction(np.array([1]), np.array([0.2, 0.8], np.float32)),
    ],
    ids=["one label", "several labels"],
)
def test_classes_stand_on_a_panel_in_the_lower_half(result):
    touched = changed(GREY, draw(GREY, result, LABELS))
    assert touched.any() and not touched[:120].any()


def test_nothing_found_leaves_the_picture_as_it_is():
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert not changed(GREY, draw(GREY, nothing, LABELS)).any()
    no_points = KeyPoints(np.zeros((0, 6, 2), np.float32), np.zeros(0), np.zeros((0, 6), np.float32))
    assert not changed(GREY, draw(GREY, (no_points, nothing), LABELS)).any()


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (400, 3), (2000, 3000)])
def test_any_size_of_picture_is_drawn_on(shape):
    picture = np.zeros((*shape, 3), np.uint8)
    box = Detections(
        np.array([[0, 0, shape[1], shape[0]]], np.float32), np.array([0], np.int32), np.array([0.5], np.float32)
    )
    points = KeyPoints(np.zeros((1, 2, 2), np.float32), np.array([0]), np.ones((1, 2), np.float32))
    draw(picture, (points, box), LABELS, ("a", "b"))
    draw(picture, ClassificationPrediction(np.array([0]), np.array([[0.9, 0.1]], np.float32)), LABELS)


def test_lines_grow_with_the_picture():
    def share(scale: int) -> float:
        picture = np.kron(GREY, np.ones((scale, scale, 1), np.uint8))
        box = Detections(BOX.xyxy * scale, BOX.class_id, BOX.confidence)
        return changed(picture, draw(picture, box, LABELS)).mean()

    assert share(6) == pytest.approx(share(2), rel=0.5)


def test_a_line_of_text_and_a_page_are_drawn_as_what_they_are():
    words = Detections(BOX.xyxy, np.array([2], np.int32), BOX.confidence, None, [{"text": "Sir", "parent": -1}])
    assert np.array_equal(draw(GREY, "Dear Sir", ()), draw_line(GREY, "Dear Sir"))
    assert np.array_equal(draw(GREY, ("Sir", words), ()), draw_page(GREY, "Sir", words))
    assert draw(GREY, "Dear Sir", ()).shape[0] > 240 and changed(GREY, draw(GREY, ("Sir", words), ())).any()


def test_names_are_left_out_and_lines_are_as_wide_as_asked():
    bare = changed(GREY, draw(GREY, (POINTS, BOX), LABELS, ("eye", "nose"), names=False))
    named = changed(GREY, draw(GREY, (POINTS, BOX), LABELS, ("eye", "nose")))
    assert bare.sum() < named.sum() and not bare[:78].any() and not bare[190:].any()
    thin, wide = (changed(GREY, draw(GREY, BOX, LABELS, line=line, names=False)).sum() for line in (1, 6))
    assert 3 * thin < wide


def test_an_id_stands_behind_the_name_of_its_box_and_chooses_its_colour():
    plain, same = draw(GREY, BOX, LABELS), draw(GREY, BOX, LABELS, ids=np.array([-1]))
    assert np.array_equal(plain, same)  # a box without an id is drawn as ever
    third, fourth = (draw(GREY, BOX, LABELS, ids=np.array([i])) for i in (3, 4))
    assert (third[120, 60] != fourth[120, 60]).any()  # the left edge
    name = np.s_[40:80, 60:]
    assert changed(plain, third)[name].any() and changed(plain, draw(GREY, BOX, LABELS, ids=np.array([1])))[name].any()
