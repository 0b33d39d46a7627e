"""The prototype head: masks equal enlarging everything and cutting the box out, and are only made when asked for."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.images.resize import letterbox
from tritonvision.python_backend.postprocess import dense_boxes, prototype_masks

SIZE = 64, 96  # height, width of the network
PARAMETERS = prototype_masks.TASK.parameters


def tensors(seed: int, count: int = 6) -> dict[str, np.ndarray]:
    """Boxes all over the network's pixels and beyond, and prototypes that vary smoothly."""
    random = np.random.default_rng(seed)
    corners = random.uniform(-0.2, 1.2, (count, 2, 2)) * SIZE[::-1]
    coarse = random.normal(size=(32, 4, 5)).astype(np.float32)
    cells = SIZE[1] // 4, SIZE[0] // 4
    return {
        "boxes": np.concatenate([corners.min(1), corners.max(1)], 1).astype(np.float32),
        "scores": np.linspace(0.9, 0.5, count, dtype=np.float32),
        "class_ids": np.arange(count, dtype=np.int32),
        "coefficients": random.normal(size=(count, 32)).astype(np.float32),
        "prototypes": np.stack([cv2.resize(p, cells, interpolation=cv2.INTER_CUBIC) for p in coarse]),
    }


def enlarge(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear between the centres of cells, the border repeated: the definition, pixel by pixel."""
    for axis, length in enumerate((height, width)):
        count = cells.shape[axis]
        source = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, None)
        lower = np.minimum(source.astype(int), count - 1)
        upper = np.minimum(lower + 1, count - 1)
        share = (source - lower).reshape(-1, 1) if axis == 0 else source - lower
        cells = cells.take(lower, axis) * (1 - share) + cells.take(upper, axis) * share
    return cells


def reference(made: dict[str, np.ndarray], i: int, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Logits of the whole picture, -1 outside of the box: of all cells, and in double precision.

    The cells are enlarged until the padding ends between two of them, the padding is cut off, the rest is enlarged.
    """
    logits = np.tensordot(made["coefficients"][i].astype(float), made["prototypes"].astype(float), 1)
    scale = min(SIZE[0] / height, SIZE[1] / width)
    new_h, new_w = max(round(height * scale), 1), max(round(width * scale), 1)
    pads = [total - new for total, new in zip(SIZE, (new_h, new_w), strict=True)]
    factor = next(f for f in (1, 2, 4) if all(p % (4 // f) == 0 and p // 2 % (4 // f) == 0 for p in pads))
    fine = enlarge(logits, logits.shape[0] * factor, logits.shape[1] * factor)
    step = 4 // factor
    top, left = (round(p / 2 - 0.1) // step for p in pads)
    whole = enlarge(fine[top : top + new_h // step, left : left + new_w // step], height, width)
    y, x = np.mgrid[:height, :width]
    inside = (x >= box[0]) & (x < box[2]) & (y >= box[1]) & (y < box[3])
    return np.where(inside, whole, -1)


@settings(max_examples=80, deadline=None)
@given(height=st.integers(1, 330), width=st.integers(1, 330), seed=st.integers(0, 1000))
def test_masks_are_those_of_the_enlarged_prototypes_cut_to_the_box(height, width, seed):
    _, geometry = letterbox(np.zeros((height, width, 3), np.uint8), *SIZE)
    made = tensors(seed)
    found = prototype_masks.post(made, geometry, tasks.resolve(PARAMETERS, {"iou_threshold": 1.0}))
    assert len(found["masks"]) == len(made["scores"])
    for i, (counts, box) in enumerate(zip(found["masks"], found["boxes"], strict=True)):
        logits = reference(made, i, box, height, width)
        got = coco.decode({"size": [height, width], "counts": counts}).astype(bool)
        assert (got == (logits > 0))[np.abs(logits) > 1e-4].all()


def test_boxes_are_those_of_dense_boxes():
    _, geometry = letterbox(np.zeros((50, 70, 3), np.uint8), *SIZE)
    made = tensors(3, 40)
    given_ = {"confidence": 0.6, "iou_threshold": 0.2, "class_agnostic_nms": True, "max_detections": 7}
    found = prototype_masks.post(made, geometry, tasks.resolve(PARAMETERS, given_))
    wanted = dense_boxes.post(made, geometry, tasks.resolve(dense_boxes.TASK.parameters, given_))
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)
    assert len(found["masks"]) == len(found["boxes"])


def test_no_mask_is_decoded_that_nobody_asked_for():
    made = tensors(1)
    del made["prototypes"], made["coefficients"]  # not even looked at
    _, geometry = letterbox(np.zeros((50, 70, 3), np.uint8), *SIZE)
    found = prototype_masks.post(made, geometry, tasks.resolve(PARAMETERS, {"mask_format": "none"}))
    assert len(found["boxes"]) and found["masks"].shape == (0,)


def test_an_outline_lies_on_its_mask():
    _, geometry = letterbox(np.zeros((90, 140, 3), np.uint8), *SIZE)
    lengths, outlines = (
        prototype_masks.post(tensors(5), geometry, tasks.resolve(PARAMETERS, {"mask_format": kind}))["masks"]
        for kind in ("rle", "polygon")
    )
    seen = 0
    for counts, points in zip(lengths, outlines, strict=True):
        mask = coco.decode({"size": [90, 140], "counts": counts})
        points = np.frombuffer(points, "<i4").reshape(-1, 2)
        assert mask[points[:, 1], points[:, 0]].all()
        assert bool(len(points)) == bool(mask.any())
        seen += len(points)
    assert seen > 20


@pytest.mark.parametrize("picture", [(1, 1), (1, 500), (500, 1)])
def test_pictures_of_one_pixel_a_side_have_masks(picture):
    _, geometry = letterbox(np.zeros((*picture, 3), np.uint8), *SIZE)
    found = prototype_masks.post(tensors(2), geometry, tasks.resolve(PARAMETERS, {"iou_threshold": 1.0}))
    rles = [{"size": list(picture), "counts": counts} for counts in found["masks"]]
    assert len(rles) == 6 and (coco.area(rles) <= picture[0] * picture[1]).all()


def test_no_instance_and_logits_below_zero_are_empty_answers():
    _, geometry = letterbox(np.zeros((50, 70, 3), np.uint8), *SIZE)
    none = prototype_masks.post(tensors(1), geometry, tasks.resolve(PARAMETERS, {"confidence": 1.0}))
    assert none["boxes"].shape == (0, 4) and none["masks"].shape == (0,)
    dark = tensors(1) | {"coefficients": np.ones((6, 32), np.float32), "prototypes": -np.ones((32, 16, 24), np.float32)}
    found = prototype_masks.post(dark, geometry, tasks.resolve(PARAMETERS, {}))
    assert len(found["masks"]) == len(found["boxes"]) > 0
    assert not coco.area([{"size": [50, 70], "counts": counts} for counts in found["masks"]]).any()


def test_an_unknown_mask_format_is_refused():
    with pytest.raises(InvalidParameter, match="mask_format"):
        tasks.resolve(PARAMETERS, {"mask_format": "png"})


def test_a_mask_along_a_strip_of_millions_of_pixels_takes_no_minute():
    _, geometry = letterbox(np.zeros((1, 1, 3), np.uint8), *SIZE)
    geometry = type(geometry)(5_000_000, 1, 0, 32, 96 / 5_000_000, 1.0)
    made = tensors(4, 1) | {"boxes": np.array([[0, 0, 96, 64]], np.float32)}
    began = time.perf_counter()
    (counts,) = prototype_masks.post(made, geometry, tasks.resolve(PARAMETERS, {}))["masks"]
    assert time.perf_counter() - began < 20
    assert 0 <= coco.area({"size": [1, 5_000_000], "counts": counts}) <= 5_000_000
