"""The post step: each sample by its own geometry and settings, and all of them in one batch."""

import numpy as np
import pytest

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend import post
from tritonvision.python_backend.images.resize import Geometry


@pytest.fixture
def step(triton, tmp_path):
    def open_step(head):
        made = post.TritonPythonModel()
        made.initialize(triton.args(tmp_path, {"head": head}))
        return made

    return open_step


def geometry(*sizes):
    return np.stack([Geometry(width, height, 0, 0, 1, 1).to_array() for width, height in sizes])


def detections(*scores):
    """As many samples as lists of scores, boxes far apart."""
    count = len(scores[0])
    corners = np.float32([[20 * i, 0, 20 * i + 10, 10] for i in range(count)])
    return {
        "boxes": np.tile(corners, (len(scores), 1, 1)), "scores": np.float32(scores),
        "class_ids": np.zeros((len(scores), count), np.int32),
    }  # fmt: skip


def test_answers_of_different_length_are_padded_with_the_class_id_minus_one(step):
    sent = detections([0.9, 0.8, 0.1], [0.1, 0.1, 0.1]) | {"geometry": geometry((100, 50), (60, 40))}
    found = step("dense-boxes").answer(sent, [])
    assert found["class_ids"].tolist() == [[0, 0], [-1, -1]]
    assert found["scores"][1].tolist() == [0, 0] and found["boxes"].shape == (2, 2, 4)
    assert found["image_size"].tolist() == [[50, 100], [40, 60]] and found["image_size"].dtype == np.int32


def test_each_sample_has_its_own_settings(step, triton):
    sent = detections([0.9, 0.8], [0.9, 0.8]) | {"geometry": geometry((100, 50), (100, 50))}
    parameters = triton.texts({"confidence": 0.85}, {"confidence": 0.1})
    found = step("dense-boxes").answer(sent | {"parameters": parameters}, [])
    assert found["class_ids"].tolist() == [[0, -1], [0, 0]]


def test_maps_of_pictures_of_different_size_are_no_batch(step):
    sent = {"map": np.random.default_rng(0).random((2, 7, 14)).astype(np.float32)}
    same = step("dense-map").answer(sent | {"geometry": geometry((40, 30), (40, 30))}, [])
    assert same["map"].shape == (2, 30, 40) and same["range"].shape == (2, 2)
    with pytest.raises(InvalidParameter, match="differ in shape"):
        step("dense-map").answer(sent | {"geometry": geometry((40, 30), (20, 15))}, [])


def test_an_unknown_setting_is_refused(step, triton):
    sent = detections([0.9]) | {"geometry": geometry((100, 50)), "parameters": triton.texts({"loudness": 1})}
    with pytest.raises(InvalidParameter, match="'loudness'"):
        step("dense-boxes").answer(sent, [])
