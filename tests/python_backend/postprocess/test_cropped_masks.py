"""Cropped masks: fast suppression by its definition, and masks that are cut first and enlarged then."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.python_backend.images.resize import stretch
from tritonvision.python_backend.postprocess import cropped_masks

SIZE = 110, 110  # height, width of the network
CELLS = 28, 28  # 3.93 pixels each: no whole number
PARAMETERS = cropped_masks.TASK.parameters


def tensors(seed: int, count: int = 8) -> dict[str, np.ndarray]:
    """Boxes all over the network's pixels and beyond, and prototypes that vary smoothly, none negative."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-0.2, 1.2, (count, 2, 2)) * SIZE[::-1]
    coarse = random.normal(size=(32, 5, 4)).astype(np.float32)
    return {
        "boxes": np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32),
        "scores": np.linspace(0.9, 0.5, count, dtype=np.float32),
        "class_ids": np.arange(count, dtype=np.int32) % 3,
        "coefficients": random.normal(size=(count, 32)).astype(np.float32),
        "prototypes": np.stack([cv2.resize(p, CELLS).clip(0) for p in coarse]),
    }


def post(made, height=90, width=170, **given):
    _, geometry = stretch(np.zeros((height, width, 3), np.uint8), *SIZE)
    return cropped_masks.post(made, geometry, tasks.resolve(PARAMETERS, given))


def enlarged(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between the centres of cells, the border repeated: the definition, pixel by pixel."""
    for axis, length in enumerate((height, width)):
        count = cells.shape[axis]
        source = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, None)
        lower = np.minimum(source.astype(int), count - 1)
        upper = np.minimum(lower + 1, count - 1)
        share = (source - lower).reshape(-1, 1) if axis == 0 else source - lower
        cells = cells.take(lower, axis) * (1 - share) + cells.take(upper, axis) * share
    return cells


def defined(made: dict[str, np.ndarray], row: int, height: int, width: int) -> np.ndarray:
    """Probabilities of the whole picture, in double precision."""
    logits = np.tensordot(made["coefficients"][row].astype(float), made["prototypes"].astype(float), 1)
    (x1, y1), (x2, y2) = made["boxes"][row].reshape(2, 2) / SIZE[::-1] * CELLS[::-1]
    columns, rows = np.arange(CELLS[1]), np.arange(CELLS[0])[:, None]
    inside = (columns >= max(x1 - 1, 0)) & (columns < min(x2 + 1, CELLS[1]))
    inside = inside & (rows >= max(y1 - 1, 0)) & (rows < min(y2 + 1, CELLS[0]))
    return enlarged(inside / (1 + np.exp(-logits)), height, width)


@given(seed=st.integers(0, 10_000), height=st.integers(1, 400), width=st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_masks_are_cut_at_a_cell_around_their_box_and_enlarged_then(seed, height, width):
    made = tensors(seed)
    answer = post(made, height, width, iou_threshold=1.0)
    assert len(answer["masks"]) == len(made["scores"])
    for row, counts in enumerate(answer["masks"]):
        want = defined(made, row, height, width)
        got = coco.decode({"size": [height, width], "counts": counts}).astype(bool)
        assert not ((got != (want > 0.5)) & (np.abs(want - 0.5) > 1e-4)).any()


def test_a_mask_may_reach_over_its_box_but_by_little():
    made = tensors(0, 1) | {"coefficients": np.ones((1, 32), np.float32), "boxes": np.float32([[40, 40, 60, 60]])}
    made["prototypes"] = np.ones((32, *CELLS), np.float32)
    (counts,) = post(made, *SIZE)["masks"]
    rows, columns = np.nonzero(coco.decode({"size": list(SIZE), "counts": counts}))
    assert 34 <= rows.min() < 40 and 60 < rows.max() <= 67 and 34 <= columns.min() < 40


def test_what_is_suppressed_itself_suppresses_still():
    # each overlaps the next by 0.6, the first and the third hardly
    boxes = np.float32([[0, 0, 40, 40], [10, 0, 50, 40], [20, 0, 60, 40]])
    same, other = np.zeros(3, np.int32), np.int32([0, 1, 0])
    assert cropped_masks.fast_nms(boxes, same, 0.5, False).tolist() == [0]
    assert cropped_masks.fast_nms(boxes, other, 0.5, False).tolist() == [0, 1, 2]
    assert cropped_masks.fast_nms(boxes, other, 0.5, True).tolist() == [0]
    assert cropped_masks.fast_nms(boxes[:0], same[:0], 0.5, True).tolist() == []


def test_a_box_of_two_classes_is_two_instances_unless_classes_do_not_matter():
    made = tensors(1, 2)
    made["boxes"][1], made["coefficients"][1] = made["boxes"][0], made["coefficients"][0]
    assert post(made)["class_ids"].tolist() == [0, 1]
    assert post(made, class_agnostic_nms=True)["class_ids"].tolist() == [0]
    assert post(made, class_agnostic_nms=True, iou_threshold=1.0)["class_ids"].tolist() == [0]


def test_only_the_best_two_hundred_of_a_class_are_looked_at():
    boxes = np.stack([np.arange(250) * 10, np.zeros(250), np.arange(250) * 10 + 5, np.full(250, 5)], 1)
    assert len(cropped_masks.fast_nms(boxes.astype(np.float32), np.zeros(250, np.int32), 0.5, False)) == 200


@pytest.mark.parametrize(("asked", "count"), [("none", 0), ("polygon", 8), ("rle", 8)])
def test_masks_come_in_the_form_that_was_asked_for(asked, count):
    answer = post(tensors(2), mask_format=asked, iou_threshold=1.0)
    assert len(answer["masks"]) == count and len(answer["boxes"]) == 8
    assert (answer["boxes"] >= 0).all() and (answer["boxes"] <= [170, 90, 170, 90]).all()


def test_the_settings_of_the_task():
    assert post(tensors(3), confidence=0.7, iou_threshold=1.0)["scores"].min() > 0.7
    assert post(tensors(3), classes=[1], iou_threshold=1.0)["class_ids"].tolist() == [1, 1, 1]
    assert len(post(tensors(3), max_detections=2, iou_threshold=1.0)["scores"]) == 2
