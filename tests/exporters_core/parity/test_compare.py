"""Sets of boxes: order does not matter, everything else does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from tritonvision.ensembles.schemas import DENSE_BOXES, KEYPOINTS
from tritonvision.exporters.parity import compare

TOLERANCE = {"boxes": 1e-3, "scores": 1e-5, "class_ids": 0.0}


def candidates(seed=0, count=600):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 600, (count, 2))
    return {
        "boxes": np.concatenate([corners, corners + rng.uniform(4, 200, (count, 2))], axis=1).astype(np.float32),
        "scores": np.sort(rng.random(count).astype(np.float32))[::-1].copy(),
        "class_ids": rng.integers(0, 5, count).astype(np.int32),
    }


def reordered(rows, order):
    return {name: value[order] for name, value in rows.items()}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_does_not_matter(seed):
    rows = candidates(seed, 300)
    shuffled = reordered(rows, np.random.default_rng(seed).permutation(300))
    assert compare.candidate_differences(shuffled, rows, TOLERANCE) == {"boxes": 0, "scores": 0, "class_ids": 0}


@pytest.mark.parametrize("scores", ["apart", "equal"])
def test_partners_are_found_where_rounding_changes_boxes_scores_and_their_order(scores):
    rows, rng = candidates(), np.random.default_rng(1)
    if scores == "equal":
        rows["scores"][:] = 0.5
    changed = {name: rows[name] + rng.uniform(-0.4, 0.4, rows[name].shape).astype(np.float32) * TOLERANCE[name]
               for name in ("boxes", "scores")} | {"class_ids": rows["class_ids"]}  # fmt: skip
    found = compare.candidate_differences(reordered(changed, np.argsort(-changed["scores"])), rows, TOLERANCE)
    assert found == {name: compare.largest(changed[name], rows[name]) for name in rows}


@pytest.mark.parametrize(
    ("name", "row", "change", "expected"),
    [("boxes", 3, 0.25, 0.25), ("boxes", 400, 0.005, 0.005), ("scores", 5, 3e-4, 3e-4)],
)
def test_a_shifted_row_is_found_and_measured_in_both_directions(name, row, change, expected):
    rows, changed = candidates(), candidates()
    changed[name][row] += change
    for got, want in ((changed, rows), (rows, changed)):
        assert compare.candidate_differences(got, want, TOLERANCE)[name] == pytest.approx(expected, rel=0.02)


def test_a_row_of_another_class_is_found():
    rows, changed = candidates(), candidates()
    changed["class_ids"][7] += 1
    assert compare.candidate_differences(changed, rows, TOLERANCE)["class_ids"] == 1


def test_the_class_of_a_hopeless_candidate_does_not_count():
    rows, changed = candidates(), candidates()
    for side in (rows, changed):
        side["scores"][-1] = 5e-4
    changed["class_ids"][-1] += 1
    assert compare.candidate_differences(changed, rows, TOLERANCE)["class_ids"] == 0


def test_a_lost_row_is_found():
    rows = candidates()
    assert compare.candidate_differences(reordered(rows, np.arange(1, 600)), rows, TOLERANCE)["boxes"] > 1


def test_rows_that_a_topk_cut_off_are_not_missed():
    rows = candidates()
    best = reordered(rows, np.arange(200))
    assert compare.candidate_differences(best, rows, TOLERANCE) == {"boxes": 0, "scores": 0, "class_ids": 0}


@pytest.mark.parametrize("name", ["boxes", "scores"])
def test_nan_never_passes_for_equal(name):
    rows, broken = candidates(), candidates()
    broken[name][4] = np.nan
    for got, want in ((broken, rows), (rows, broken)):
        assert not compare.candidate_differences(got, want, TOLERANCE)["boxes"] <= 1e-3


def test_batches_of_dense_boxes_report_their_worst_sample():
    first, second = candidates(1), candidates(2)
    batch = {name: np.stack([first[name], second[name]]) for name in first}
    worse = {name: value.copy() for name, value in batch.items()}
    worse["boxes"][1, 9] += 2
    assert compare.tensor_differences(DENSE_BOXES.name, worse, batch, TOLERANCE)["boxes"] == pytest.approx(2, rel=1e-3)


def test_other_heads_are_compared_element_by_element():
    rows = {name: value[None] for name, value in candidates().items()}
    rows["keypoints"] = np.zeros((1, 600, 6, 2), np.float32)
    swapped = {name: value[:, ::-1] for name, value in rows.items()}
    assert compare.tensor_differences(KEYPOINTS.name, swapped, rows, TOLERANCE)["scores"] > 0.5
    shorter = {name: value[:, :10] for name, value in rows.items()}
    assert compare.tensor_differences(KEYPOINTS.name, shorter, rows, TOLERANCE)["scores"] == np.inf


def detections(*rows):
    """(box, score, class) each."""
    return {
        "boxes": np.array([r[0] for r in rows], np.float32).reshape(-1, 4),
        "scores": np.array([r[1] for r in rows], np.float32),
        "class_ids": np.array([r[2] for r in rows], np.int32),
    }


CAT, DOG = ([10, 10, 50, 60], 0.9, 0), ([100, 20, 150, 90], 0.7, 1)
EDGE = ([5, 5, 9, 9], 0.400001, 2)


def compared(got, want, most=300):
    return compare.detections(detections(*got), detections(*want), confidence=0.4, scores_within=1e-5, most=most)


def test_detections_find_their_partners_in_any_order():
    assert compared([DOG, CAT], [CAT, DOG]) == (0, {"pixels": 0.0, "scores": 0.0})
    assert compared([], []) == (0, {"pixels": 0.0, "scores": 0.0})


def test_missing_and_surplus_detections_are_counted():
    assert compared([CAT], [CAT, DOG])[0] == 1
    assert compared([CAT, DOG], [CAT])[0] == 1
    assert compared([(DOG[0], DOG[1], 0)], [DOG])[0] == 2


def test_a_detection_on_the_threshold_may_be_missing():
    assert compared([CAT, EDGE], [CAT])[0] == 0
    assert compared([CAT], [CAT, EDGE])[0] == 0


def test_the_last_of_a_list_cut_short_may_be_another_one():
    other = ([300, 20, 350, 90], 0.7, 1)
    assert compared([CAT, DOG], [CAT, other], most=2)[0] == 0
    assert compared([CAT, DOG], [CAT, other], most=3)[0] == 2


def test_two_last_ones_that_overlap_may_replace_each_other_and_no_others_may():
    other = ([104, 20, 154, 90], 0.7, 1)
    sides = detections(CAT, DOG), detections(CAT, other)
    given = {"confidence": 0.4, "scores_within": 1e-5, "pixels_within": 0.01}
    assert compare.detections(*sides, most=2, **given) == (0, {"pixels": 0.0, "scores": 0.0})
    assert compare.detections(*sides, most=3, **given)[1]["pixels"] == 4
    farther = detections((CAT[0], 0.6, 0), DOG), detections((CAT[0], 0.6, 0), other)
    assert compare.detections(*farther, most=2, **given)[1]["pixels"] == 4  # they are not the last


def test_differences_are_measured_in_pixels_and_scores():
    moved = ([10.5, 10, 50, 60], 0.899, 0)
    missing, worst = compared([moved], [CAT])
    pixels, scores = worst["pixels"], worst["scores"]
    assert (missing, pixels) == (0, 0.5)
    assert scores == pytest.approx(0.001, rel=1e-3)


def test_key_points_count_among_the_pixels():
    got, want = detections(CAT), detections(CAT)
    got["keypoints"], want["keypoints"] = np.zeros((1, 6, 2), np.float32), np.zeros((1, 6, 2), np.float32)
    got["keypoints"][0, 5, 1] = 3
    assert compare.detections(got, want, 0.4, 1e-5, 300) == (0, {"pixels": 3.0, "scores": 0.0})


def run_lengths(mask):
    return coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]


def test_masks_count_and_an_extra_detection_does_even_if_its_mask_is_empty():
    size = np.array([100, 200])
    whole, half, empty = np.ones(size, bool), np.zeros(size, bool), np.zeros(size, bool)
    half[:50] = True
    want = detections(CAT) | {"masks": np.array([run_lengths(whole)], object), "image_size": size}
    got = detections(CAT) | {"masks": np.array([run_lengths(half)], object)}
    assert compare.detections(got, want, 0.4, 1e-5, 300) == (0, {"pixels": 0, "scores": 0, "masks": 0.5})
    got = detections(CAT, DOG) | {"masks": np.array([run_lengths(whole), run_lengths(empty)], object)}
    assert compare.detections(got, want, 0.4, 1e-5, 300)[0] == 1


def test_a_relative_difference_is_one_of_the_largest_value():
    want = {"map": np.float32([[2, -50]]), "logits": np.float32([[2, -50]])}
    got = {name: value + np.float32(1) for name, value in want.items()}
    found = compare.tensor_differences("dense-map", got, want, {}, relative={"map"})
    assert found == {"map": pytest.approx(0.02), "logits": pytest.approx(1)}
