"""Head kinds as pure functions: suppression equals its definition, the way back is the way there, settings hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.images.resize import RULES, Geometry
from tritonvision.python_backend.postprocess import classes, dense_boxes, keypoints, query_boxes

SAME = Geometry(1000, 1000, 0, 0, 1, 1)
DETECTION = tasks.OBJECT_DETECTION.parameters


def candidates(count: int, kinds: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 700, (count, 2))
    size = random.uniform(1, 300, (count, 2))
    return {
        "boxes": np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        "scores": random.uniform(0, 1, count).astype(np.float32),
        "class_ids": random.integers(0, kinds, count).astype(np.int32),
    }


def iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 60), kinds=st.integers(1, 3), seed=st.integers(0, 10_000), agnostic=st.booleans())
def test_survivors_of_suppression_are_those_of_its_definition(count, kinds, seed, agnostic):
    tensors = candidates(count, kinds, seed)
    given_ = {"confidence": 0.3, "iou_threshold": 0.4, "class_agnostic_nms": agnostic}
    found = dense_boxes.post(tensors, SAME, tasks.resolve(DETECTION, given_))
    kept: list[int] = []
    for i in np.argsort(-tensors["scores"], kind="stable"):
        if tensors["scores"][i] <= np.float32(0.3):
            continue
        rivals = [k for k in kept if agnostic or tensors["class_ids"][k] == tensors["class_ids"][i]]
        if all(iou(tensors["boxes"][k], tensors["boxes"][i]) <= 0.4 for k in rivals):
            kept.append(i)
    np.testing.assert_array_equal(found["scores"], tensors["scores"][kept])
    np.testing.assert_array_equal(found["class_ids"], tensors["class_ids"][kept])
    np.testing.assert_allclose(found["boxes"], tensors["boxes"][kept], atol=1e-4)


def test_a_class_filter_comes_after_suppression_and_the_count():
    tensors = {
        "boxes": np.array([[0, 0, 10, 10], [1, 1, 10, 10], [50, 50, 60, 60]], np.float32),
        "scores": np.array([0.9, 0.8, 0.7], np.float32),
        "class_ids": np.array([0, 1, 1], np.int32),
    }
    agnostic = {"class_agnostic_nms": True, "classes": [1]}
    assert dense_boxes.post(tensors, SAME, tasks.resolve(DETECTION, agnostic))["scores"].tolist() == [np.float32(0.7)]
    few = {"max_detections": 1, "classes": [1]}
    assert len(dense_boxes.post(tensors, SAME, tasks.resolve(DETECTION, few))["boxes"]) == 0


@pytest.mark.parametrize("head", [dense_boxes, keypoints])
def test_no_candidate_is_an_empty_answer_of_the_right_shapes(head):
    tensors = candidates(5, 2, 0) | {"keypoints": np.zeros((5, 6, 2), np.float32)}
    found = head.post(tensors, SAME, tasks.resolve(DETECTION, {"confidence": 1.0}))
    assert found["boxes"].shape == (0, 4) and found["scores"].shape == (0,) and found["class_ids"].dtype == np.int32
    if head is keypoints:
        assert found["keypoints"].shape == (0, 6, 2)


def test_overlapping_key_points_are_their_score_weighted_mean():
    tensors = {
        "boxes": np.array([[0, 0, 10, 10], [2, 0, 12, 10], [80, 80, 90, 90]], np.float32),
        "scores": np.array([0.6, 0.9, 0.5], np.float32),
        "class_ids": np.zeros(3, np.int32),
        "keypoints": np.array([[[0, 0]], [[3, 3]], [[85, 85]]], np.float32),
    }
    found = keypoints.post(tensors, SAME, tasks.resolve(DETECTION, {"iou_threshold": 0.3}))
    assert found["scores"].tolist() == [np.float32(0.9), np.float32(0.5)]
    weight = 0.9 / 1.5
    np.testing.assert_allclose(found["boxes"][0], [2 * weight, 0, 10 + 2 * weight, 10], atol=1e-5)
    np.testing.assert_allclose(found["keypoints"][0], [[3 * weight, 3 * weight]], atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(w=st.integers(1, 900), h=st.integers(1, 900), rule=st.sampled_from(["letterbox", "square"]))
def test_the_corners_of_a_picture_go_to_the_network_and_back(w, h, rule):
    _, geometry = RULES[rule](np.zeros((h, w, 3), np.uint8), 128, 128)
    again = Geometry.from_array(geometry.to_array())
    assert again == geometry and (again.width, again.height) == (w, h)
    corners = np.array([[0, 0], [w, h]], np.float32)
    gain = np.array([geometry.gain_x, geometry.gain_y], np.float32)
    network = corners * gain + np.array([geometry.offset_x, geometry.offset_y], np.float32)
    assert (network >= -0.51).all() and (network <= 128.51).all()
    np.testing.assert_allclose(geometry.to_picture(network), corners, atol=0.01)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(None, [0.1, 0.9]), ("none", [-1.0, 1.0]), ("sigmoid", [0.26894, 0.73106]), ("softmax", [0.1192, 0.8808])],
)
def test_the_activation_is_the_models_own_unless_asked_otherwise(function, expected):
    tensors = {"logits": np.array([-1, 1], np.float32), "scores": np.array([0.1, 0.9], np.float32)}
    found = classes.post(tensors, SAME, tasks.resolve(tasks.CLASSIFICATION.parameters, {"function": function}))
    np.testing.assert_allclose(found["scores"], expected, atol=1e-4)
    assert found["class_ids"].tolist() == [1]


def test_an_unknown_setting_is_refused_by_name():
    with pytest.raises(InvalidParameter, match="'conf'"):
        tasks.resolve(DETECTION, {"conf": 0.5})


def three_overlapping(**more: np.ndarray) -> dict[str, np.ndarray]:
    """Two boxes of class 0 and 1 on each other, best first, and one of class 1 far away."""
    return {
        "boxes": np.array([[0, 0, 10, 10], [1, 0, 11, 10], [80, 80, 90, 90]], np.float32),
        "scores": np.array([0.9, 0.6, 0.5], np.float32),
        "class_ids": np.array([0, 1, 1], np.int32),
        "keypoints": np.array([[[0, 0]], [[3, 3]], [[85, 85]]], np.float32),
    } | more


def key_points(tensors: dict[str, np.ndarray], **given_) -> dict[str, np.ndarray]:
    parameters = tasks.resolve(tasks.KEYPOINT_DETECTION.parameters, {"confidence": 0.1, **given_})
    return keypoints.post(tensors, SAME, parameters)


def test_key_points_of_different_classes_are_averaged_only_when_asked_for():
    apart = key_points(three_overlapping())
    assert apart["class_ids"].tolist() == [0, 1, 1] and apart["keypoints"][0].tolist() == [[0, 0]]
    together = key_points(three_overlapping(), class_agnostic_nms=True)
    assert together["class_ids"].tolist() == [0, 1]
    np.testing.assert_allclose(together["keypoints"][0], [[1.2, 1.2]], atol=1e-5)  # 3 * 0.6 / 1.5


def test_key_points_have_a_class_filter_that_comes_after_the_count():
    assert key_points(three_overlapping(), classes=[1])["scores"].tolist() == [np.float32(0.6), np.float32(0.5)]
    found = key_points(three_overlapping(), classes=[1], class_agnostic_nms=True)
    assert found["scores"].tolist() == [np.float32(0.5)] and found["keypoints"].tolist() == [[[85, 85]]]
    assert len(key_points(three_overlapping(), classes=[1], max_detections=1)["boxes"]) == 0


def test_key_points_are_the_best_ones_where_there_are_too_many():
    assert key_points(three_overlapping(), max_detections=2)["scores"].tolist() == [np.float32(0.9), np.float32(0.6)]


@pytest.mark.parametrize("head", [dense_boxes, keypoints, query_boxes])
def test_only_the_best_candidates_are_looked_at(head):
    far = three_overlapping(
        boxes=np.array([[0, 0, 0.1, 0.1], [0.3, 0.3, 0.4, 0.4], [0.8, 0.8, 0.9, 0.9]], np.float32),
        scores=np.array([0.5, 0.9, 0.6], np.float32),
    )
    parameters = tasks.resolve(DETECTION, {"confidence": 0.1})
    assert len(head.post(far, SAME, parameters)["scores"]) == 3
    found = head.post(far, SAME, parameters | {"max_candidates": 2})
    assert found["scores"].tolist() == [np.float32(0.9), np.float32(0.6)]


@pytest.mark.parametrize("head", [dense_boxes, keypoints, query_boxes])
def test_a_detection_is_over_the_threshold_and_not_at_it(head):
    found = head.post(three_overlapping(), SAME, tasks.resolve(DETECTION, {"confidence": 0.5}))
    assert found["scores"].tolist() == [np.float32(0.9), np.float32(0.6)]


def test_a_class_is_at_the_threshold_or_over_it():
    tensors = {"logits": np.zeros(3, np.float32), "scores": np.array([0.25, 0.5, 0.75], np.float32)}
    found = classes.post(tensors, SAME, tasks.resolve(tasks.CLASSIFICATION.parameters, {"confidence": 0.5}))
    assert found["class_ids"].tolist() == [2, 1] and len(found["scores"]) == 3
