"""Classes of the caller's own, as pure functions: which names are refused, which candidates are the answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.vocabulary.selection import class_names, select

SETTINGS = tasks.OPEN_VOCABULARY.parameters


def resolved(**given) -> dict:
    return tasks.resolve(SETTINGS, given)


def candidates(count: int, classes: int, seed: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(-0.2, 0.9, (count, 2)), random.uniform(0, 0.6, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1) * [width, height, width, height]
    return boxes.astype(np.float32), random.uniform(0, 1, (count, classes)).astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    return sides.prod() / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - sides.prod())


@settings(max_examples=80, deadline=None)
@given(
    count=st.integers(0, 40), classes=st.integers(1, 4), seed=st.integers(0, 10_000), width=st.integers(1, 5000),
    height=st.integers(1, 5000), confidence=st.floats(0, 1), most=st.integers(1, 20),
)  # fmt: skip
def test_without_suppression_every_box_over_the_threshold_is_found_as_its_best_class(
    count, classes, seed, width, height, confidence, most
):
    boxes, scores = candidates(count, classes, seed, width, height)
    found = select(boxes, scores, (height, width), resolved(confidence=confidence, max_detections=most))
    best = scores.max(axis=1)
    wanted = [i for i in np.argsort(-best, kind="stable") if best[i] > np.float32(confidence)][:most]
    np.testing.assert_array_equal(found["scores"], best[wanted])
    np.testing.assert_array_equal(found["class_ids"], scores.argmax(axis=1)[wanted])
    np.testing.assert_array_equal(found["boxes"], np.clip(boxes[wanted], 0, np.float32([width, height] * 2)))
    np.testing.assert_array_equal(found["image_size"], [height, width])
    assert [found[name].dtype for name in ("boxes", "scores", "class_ids", "image_size")] == ["f4", "f4", "i4", "i4"]
    assert found["boxes"].shape == (len(wanted), 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), threshold=st.floats(0, 1), agnostic=st.booleans(), most=st.integers(1, 30))
def test_suppression_is_the_greedy_one_within_each_class_or_among_all(seed, threshold, agnostic, most):
    boxes, scores = candidates(30, 3, seed, 9000, 8000)  # wider than the shift by which others keep classes apart
    best, class_ids = scores.max(axis=1), scores.argmax(axis=1)
    wanted: list[int] = []
    for i in np.argsort(-best, kind="stable"):
        rivals = [j for j in wanted if agnostic or class_ids[j] == class_ids[i]]
        if best[i] > 0.1 and not any(iou(boxes[j], boxes[i]) > threshold for j in rivals):
            wanted.append(i)
    given_ = resolved(confidence=0.1, iou_threshold=threshold, class_agnostic_nms=agnostic, max_detections=most)
    found = select(boxes, scores, (100_000, 100_000), given_)
    np.testing.assert_array_equal(found["scores"], best[wanted[:most]])
    np.testing.assert_array_equal(found["class_ids"], class_ids[wanted[:most]])


def test_a_class_that_cannot_be_meant_loses_to_any_other_and_alone_finds_nothing():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 20, 20]], np.float32)
    scores = np.array([[-1, 0.3], [-1, -1]], np.float32)
    found = select(boxes, scores, (30, 30), resolved(confidence=0.0))
    assert found["class_ids"].tolist() == [1]
    assert found["boxes"].tolist() == [[0, 0, 10, 10]]


def test_names_come_back_in_their_order_and_as_they_were_written():
    texts = ["a cat", " Remote Control ", "a cat"]
    assert class_names(resolved(texts=texts), 3) == texts


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (None, "names no classes"),
        ([], "names no classes"),
        (["cat", ""], "text of class 1 is empty"),
        ([" \t\n"], "text of class 0 is empty"),
        (["cat"] * 10_000, "may name 100 classes, not 10000"),
    ],
)
def test_names_that_cannot_be_looked_for_are_refused_with_a_hint(texts, sentence):
    with pytest.raises(InvalidParameter, match=sentence) as refused:
        class_names(resolved(texts=texts), 100)
    assert refused.value.hint
