"""Query boxes as a pure function: what is over the threshold stays, in picture pixels, and nothing suppresses it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.postprocess import query_boxes

DETECTION = tasks.OBJECT_DETECTION.parameters


def queries(count: int, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(-0.2, 0.9, (count, 2)), random.uniform(0, 0.5, (count, 2))
    return {
        "boxes": np.concatenate([corner, corner + size], axis=1).astype(np.float32),
        "scores": -np.sort(-random.uniform(0, 1, count).astype(np.float32)),
        "class_ids": random.integers(0, 4, count).astype(np.int32),
    }


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 50), seed=st.integers(0, 10_000), width=st.integers(1, 5000), height=st.integers(1, 5000),
    confidence=st.floats(0, 1), most=st.integers(1, 20), classes=st.none() | st.lists(st.integers(0, 5)),
)  # fmt: skip
def test_the_best_of_the_wanted_classes_over_the_threshold_are_found_within_the_picture(
    count, seed, width, height, confidence, most, classes
):
    tensors = queries(count, seed)
    geometry = Geometry(width, height, 0, 0, 384 / width, 384 / height)
    given_ = {"confidence": confidence, "max_detections": most, "classes": classes}
    found = query_boxes.post(tensors, geometry, tasks.resolve(DETECTION, given_))
    kept = [
        i for i in range(count)
        if tensors["scores"][i] > np.float32(confidence) and (classes is None or tensors["class_ids"][i] in classes)
    ][:most]  # fmt: skip
    np.testing.assert_array_equal(found["scores"], tensors["scores"][kept])
    np.testing.assert_array_equal(found["class_ids"], tensors["class_ids"][kept])
    size = np.array([width, height, width, height])
    np.testing.assert_allclose(found["boxes"], np.clip(tensors["boxes"][kept] * size, 0, size), rtol=1e-6, atol=1e-3)
    assert found["boxes"].shape == (len(kept), 4)
    assert (found["boxes"].dtype, found["scores"].dtype, found["class_ids"].dtype) == ("f4", "f4", "i4")


@pytest.mark.parametrize("setting", [{"iou_threshold": 0.0}, {"iou_threshold": 1.0}, {"class_agnostic_nms": True}])
def test_boxes_that_lie_on_each_other_all_stay_whatever_the_settings_of_suppression(setting):
    tensors = {
        "boxes": np.tile(np.array([[0.1, 0.2, 0.3, 0.4]], np.float32), (5, 1)),
        "scores": np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32),
        "class_ids": np.zeros(5, np.int32),
    }
    found = query_boxes.post(tensors, Geometry(100, 50, 0, 0, 1, 1), tasks.resolve(DETECTION, setting))
    np.testing.assert_allclose(found["boxes"], np.tile([[10, 10, 30, 20]], (5, 1)), rtol=1e-6)


def test_the_count_is_taken_after_the_classes():
    tensors = queries(20, seed=3) | {"class_ids": np.array([0] * 18 + [1] * 2, np.int32)}
    wanted = {"confidence": 0.0, "classes": [1], "max_detections": 2}
    found = query_boxes.post(tensors, Geometry(10, 10, 0, 0, 1, 1), tasks.resolve(DETECTION, wanted))
    assert found["class_ids"].tolist() == [1, 1]


def test_a_score_that_is_no_number_is_not_found():
    tensors = queries(3, seed=0) | {"scores": np.array([0.9, np.nan, 0.8], np.float32)}
    found = query_boxes.post(tensors, Geometry(10, 10, 0, 0, 1, 1), tasks.resolve(DETECTION, {"confidence": 0.0}))
    assert found["scores"].tolist() == [np.float32(0.9), np.float32(0.8)]
