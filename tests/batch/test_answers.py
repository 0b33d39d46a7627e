"""Every result type that a batch writes comes back as it was."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from answers import found, instances, page, regions

from tritonvision import results
from tritonvision.batch.answers import from_json, to_json
from tritonvision.errors import InvalidParameter

LABELS = ("cat", "dog", "fox")
SIZE = {"height": 30, "width": 40}
RANDOM = np.random.default_rng(0)
BOXES = found(SIZE)
POINTS = results.KeyPoints(
    RANDOM.random((2, 5, 2), np.float32), np.array([1, 2], np.int32), np.ones((2, 5), np.float32)
)  # fmt: skip
NOTHING = results.Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32), SIZE)
ANSWERS = {
    "boxes": BOXES,
    "no boxes": NOTHING,
    "masks": instances(BOXES, "rle"),
    "outlines": instances(BOXES, "polygon"),
    "key points": (POINTS, BOXES),
    "nobody's key points": (
        results.KeyPoints(np.zeros((0, 5, 2), np.float32), np.zeros(0, np.int32), np.zeros((0, 5), np.float32)),
        NOTHING,
    ),
    "gaze": (POINTS, BOXES, results.L2CSGazeDetection(np.float32([0.1, 0.2]), np.float32([-0.1, 1 / 3]))),
    "classes": results.ClassificationPrediction(np.array([2], np.int64), RANDOM.random((1, 3), np.float32), [SIZE]),
    "labels": results.MultiLabelClassificationPrediction(np.array([0, 2], np.int64), np.float32([0.6, 0.1, 0.9]), SIZE),
    "depth": results.DepthMap(RANDOM.random((80, 90), np.float32), "depth", SIZE),
    "vector": RANDOM.standard_normal((1, 512)).astype(np.float32),
    "long vector": RANDOM.standard_normal((1, 5000)).astype(np.float32),
    "text": "a “line”\nof text",
    "page": page(SIZE),
    "regions": regions(SIZE),
}


def same(one, other) -> bool:
    if isinstance(one, tuple):
        return isinstance(other, tuple) and all(map(same, one, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return type(one) is type(other) and all(same(getattr(one, n), getattr(other, n)) for n in names)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_comes_back_as_it_was_to_the_last_bit(name):
    assert same(ANSWERS[name], from_json(to_json(ANSWERS[name], LABELS)))


def test_names_of_classes_stand_beside_their_ids():
    told = json.loads(to_json(BOXES, LABELS))
    assert (told["type"], told["class_id"], told["class_name"]) == ("Detections", [1, 2], ["dog", "fox"])
    assert json.loads(to_json(BOXES, ()))["class_id"] == [1, 2], "where nobody knows their names"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"type": "Engine"}', '{"type": "Detections"}', "3"])
def test_what_is_no_answer_is_a_sentence(text):
    with pytest.raises(InvalidParameter):
        from_json(text)
