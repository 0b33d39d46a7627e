"""Answers are compared as what they are: rows as sets, maps in their own unit, texts by how many are others."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from tritonvision import differences as d

BARS = {"boxes": 0.01, "scores": 1e-5, "class_ids": 0.0, "missing": 0.0}


def rows(count: int = 8) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 300, (1, count, 2))
    boxes = np.concatenate([corners, corners + random.uniform(20, 200, (1, count, 2))], axis=2)
    return {
        "boxes": boxes.astype(np.float32), "scores": np.linspace(0.9, 0.5, count, dtype=np.float32)[None],
        "class_ids": np.arange(count, dtype=np.int32)[None] % 3,
    }  # fmt: skip


def taken(answer: dict[str, np.ndarray], order) -> dict[str, np.ndarray]:
    return {name: value[:, order] for name, value in answer.items()}


@pytest.mark.parametrize("kind", [d.ROWS, d.CANDIDATES])
def test_rows_that_trade_places_are_the_same(kind):
    want = rows()
    found = d.differences(kind, taken(want, [1, 0, 2, 3, 5, 4, 7, 6]), want, BARS)
    assert d.within(found, BARS) and not any(found.values())


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda a: a | {"boxes": a["boxes"] + np.float32(0.5)}, "boxes"),
        (lambda a: a | {"scores": a["scores"] - np.float32(0.001)}, "scores"),
        (lambda a: a | {"class_ids": a["class_ids"] + 1}, "missing"),
        (lambda a: taken(a, [0, 1, 2, 4, 5, 6, 7]), "boxes"),
        (lambda a: a | {"scores": a["scores"] * np.float32("nan")}, "scores"),
        (lambda a: {name: value for name, value in a.items() if name != "boxes"}, "boxes"),
        (lambda a: taken(a, []), "missing"),
    ],
    ids=["moved", "less sure", "another class", "one lost", "no number", "no boxes", "nothing found"],
)  # fmt: skip
def test_rows_that_differ_are_told_by_what_differs(change, name):
    want = rows()
    found = d.differences(d.ROWS, change(want), want, BARS)
    assert not found[name] <= BARS[name]


def test_a_detection_too_many_has_no_partner():
    want, got = taken(rows(), range(6)), rows()
    assert not d.within(d.differences(d.ROWS, got, want, BARS), BARS)
    assert d.within(d.differences(d.CANDIDATES, got, want, BARS), BARS), "of candidates only the best are kept"


def test_nothing_found_on_both_sides_is_the_same():
    nothing = taken(rows(), [])
    assert not any(d.differences(d.ROWS, nothing, nothing, BARS).values())


def test_masks_differ_by_what_they_do_not_share():
    left, right = np.zeros((20, 30), np.uint8, order="F"), np.zeros((20, 30), np.uint8, order="F")
    left[:, :20], right[:, 10:] = 1, 1
    counts = [coco.encode(side)["counts"] for side in (left, right)]
    size = np.array([[20, 30]], np.int32)
    got, want = ({"masks": np.array([[c]], dtype=object), "image_size": size} for c in counts)
    found = d.differences(d.VALUES, got, want, {"masks": 0.01, "image_size": 0})
    assert found == {"masks": pytest.approx(2 / 3), "image_size": 0}
    assert d.differences(d.VALUES, want, want, {"masks": 0.01})["masks"] == 0


def test_maps_are_compared_in_their_own_unit():
    steps = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    want = {"map": steps * 5000, "range": np.float32([[0, 65.535]])}
    finer = {"map": steps * 2500, "range": np.float32([[0, 131.07]])}
    assert d.differences(d.MAP, finer, want, {"map": 1e-3})["map"] == pytest.approx(0, abs=1e-4)
    assert d.differences(d.MAP, finer | {"range": want["range"]}, want, {"map": 1e-3})["map"] > 1
    assert d.differences(d.MAP, {"map": want["map"]}, want, {"map": 1e-3})["map"] == np.inf


def test_classes_within_the_leeway_may_change_places():
    scores = np.float32([[0.3, 0.3 + 5e-6, 0.1, 0.2]])
    want = {"scores": scores, "class_ids": np.int32([[1, 0, 3]])}
    bars = {"scores": 1e-5, "class_ids": 0.0}
    assert d.within(d.differences(d.CLASSES, want | {"class_ids": np.int32([[0, 1, 3]])}, want, bars), bars)
    for ids in ([3, 0, 1], [1, 0], [2, 1, 4], [1, 0, 9], [1, 0, -1]):
        found = d.differences(d.CLASSES, want | {"class_ids": np.int32([ids])}, want, bars)
        assert found["class_ids"] > 0, ids


def test_texts_are_counted_and_another_shape_is_no_number():
    want = {"texts": np.array([b"one", b"two", b"three"])}
    assert d.differences(d.VALUES, {"texts": np.array([b"one", b"2", b"3"], dtype=object)}, want, {"texts": 0}) == {
        "texts": 2.0
    }
    assert d.differences(d.VALUES, {"texts": want["texts"][:2]}, want, {"texts": 0}) == {"texts": np.inf}
    assert d.differences(d.VALUES, {}, want, {"texts": 0}) == {"texts": np.inf}


def test_a_reduced_precision_passes_where_the_task_does():
    want = rows()
    near = want | {"boxes": want["boxes"] + 2, "scores": want["scores"] * np.float32(0.97)}
    assert not d.within(d.differences(d.ROWS, near, want, BARS), BARS)
    assert d.within(d.agreement(d.ROWS, near, want), d.PRECISION_BARS)
    sides = want["boxes"][..., 2:] - want["boxes"][..., :2]
    smaller = np.concatenate([want["boxes"][..., :2], want["boxes"][..., 2:] - 0.1 * sides], axis=-1)
    for wrong in (
        taken(near, range(4)), near | {"class_ids": near["class_ids"] + 1}, taken(near, []),
        near | {"boxes": smaller}, near | {"scores": want["scores"] * np.float32(0.85)},
        near | {"boxes": near["boxes"] * np.float32("nan")},
    ):  # fmt: skip
        assert not d.within(d.agreement(d.ROWS, wrong, want), d.PRECISION_BARS)


def test_what_a_variant_measured_before_it_may_measure_a_few_times_again_and_no_more():
    assert d.precision_bars({}) == d.PRECISION_BARS
    bars = d.precision_bars({d.APART: 0.006, d.DRIFT: 0.0001, "embeddings": 0.0015, "missing": 0.0, "texts": 0.0})
    assert bars[d.APART] == pytest.approx(0.018) and bars[d.DRIFT] == 0.01, "another processor is not the same"
    assert bars["embeddings"] == d.PRECISION_BARS["embeddings"], "never wider"
    assert bars["missing"] == d.PRECISION_BARS["missing"], "one row more or less is no measure"


@pytest.mark.parametrize("name", ["embeddings", "map", "yaw", "token_ids", "text"])
def test_a_reduced_precision_is_told_from_another_answer(name):
    random = np.random.default_rng(1)
    words = np.array([b"the quick brown fox jumps"], dtype=object)
    want, near, other = {
        "embeddings": (v := random.normal(size=(1, 64)), v + random.normal(size=(1, 64)) * 0.01, v[:, ::-1]),
        "map": (m := random.uniform(9, 10, (1, 4, 5)), m + 0.01, m * 0.5),
        "yaw": (y := np.float32([[0.1, 0.5]]), y + np.float32(0.01), y[:, ::-1]),
        "token_ids": (t := np.arange(8), np.array([0, 1, 2, 3, 4, 5, 6, 9]), t + 1),
        "text": (words, np.array([b"the quick brown fox jumped"]), np.array([b"a b c d e"])),
    }[name]  # fmt: skip
    more = {"range": np.float32([[0, 65535]])} if name == "map" else {}
    judged = [d.agreement(d.VALUES, {name: got, **more}, {name: want, **more}) for got in (near, other)]
    assert [d.within(found, d.PRECISION_BARS) for found in judged] == [True, False]


def test_the_best_class_decides_for_a_reduced_precision():
    want = {"scores": np.float32([[0.6, 0.3, 0.1]]), "class_ids": np.int32([[0]])}
    near = {"scores": np.float32([[0.55, 0.34, 0.11]]), "class_ids": np.int32([[0]])}
    assert d.within(d.agreement(d.CLASSES, near, want), d.PRECISION_BARS)
    # the last: the best is the same, and of the others nothing is as it was
    for scores, ids in (
        ([0.3, 0.6, 0.1], [1]), ([0.6, 0.3, 0.1], [1]), ([np.nan, 0.3, 0.1], [0]), ([0.6, 0.1, 0.3], [0]),
    ):  # fmt: skip
        wrong = {"scores": np.float32([scores]), "class_ids": np.int32([ids])}
        assert not d.within(d.agreement(d.CLASSES, wrong, want), d.PRECISION_BARS), scores


def test_one_doubtful_word_of_a_page_may_score_otherwise_in_a_reduced_precision_and_all_of_them_may_not():
    texts, scores = np.array([b"word"] * 50, dtype=object)[None], np.linspace(0.5, 1, 50, dtype=np.float32)[None]
    doubtful = scores.copy()
    doubtful[0, 3] -= np.float32(0.4)
    for changed, passes in ((doubtful, True), (scores - np.float32(0.15), False), (scores * np.float32("nan"), False)):
        found = d.agreement(d.VALUES, {"texts": texts, "scores": changed}, {"texts": texts, "scores": scores})
        assert d.within(found, d.PRECISION_BARS) == passes
