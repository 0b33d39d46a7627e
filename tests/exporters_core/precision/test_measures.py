"""What counts as the same answer in reduced precision, schema by schema."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools import mask

from tritonvision import tasks
from tritonvision.ensembles.entry_points import TextPreprocess
from tritonvision.exporters.contract import NoSignal
from tritonvision.exporters.parity.checks.registry import CHECKS
from tritonvision.exporters.precision.measures import boxes
from tritonvision.exporters.precision.measures.base import Question, alike
from tritonvision.exporters.precision.measures.registry import MEASURES
from tritonvision.publication import FEATURES


class Point:
    """As much of an entry point as measures look at."""

    def __init__(self, schema, task):
        self.name, self.task, self.role = schema, task, ""


POINTS = {
    "dense-boxes": tasks.OBJECT_DETECTION, "keypoints": tasks.KEYPOINT_DETECTION, "query-boxes": tasks.OBJECT_DETECTION,
    "prototype-masks": tasks.INSTANCE_SEGMENTATION, "classes": tasks.CLASSIFICATION, "embeddings": tasks.EMBEDDING,
    "dense-map": tasks.DEPTH_ESTIMATION, "promptable-masks": tasks.PROMPTABLE, "gaze": tasks.GAZE,
    "tracked-masks": tasks.TRACKING,
    "line-text": tasks.TEXT_OCR, "chat": tasks.VLM, "phrase-grounding": tasks.OPEN_VOCABULARY,
    "open-vocabulary": tasks.OPEN_VOCABULARY, "text-guided-boxes": tasks.OPEN_VOCABULARY,
    "page-text": tasks.STRUCTURED_OCR,
}  # fmt: skip
PICTURE = np.zeros((100, 200, 3), np.uint8)


def measure(schema):
    return MEASURES[schema](Point(schema, POINTS[schema]))


def figure(found, name):
    _, findings = found
    return next(finding for finding in findings if finding.name == name)


@pytest.mark.parametrize("schema", sorted(CHECKS))
def test_every_output_schema_has_a_measure_whose_questions_its_task_understands(schema):
    asked = measure(schema).questions()
    assert 0 < len(asked) <= 3 * measure(schema).most
    for question in asked:
        tasks.resolve(POINTS[schema].parameters, question.given)


def test_no_measure_is_of_a_schema_that_nobody_has():
    assert MEASURES.keys() == CHECKS.keys() == POINTS.keys()


def detections(*rows, every=None):
    """What ``observe`` gives of one picture: rows of (left, top, right, bottom, score, class)."""
    answers = []
    for wanted in (rows, rows if every is None else every):
        table = np.array(wanted, np.float32).reshape(-1, 6)
        answers.append({"boxes": table[:, :4], "scores": table[:, 4], "class_ids": table[:, 5].astype(np.int32)})
    return answers[0], lambda: answers[1]


def matched(ours, theirs):
    return figure(measure("dense-boxes").agreement([ours], [theirs]), "matched").value


def test_a_detection_that_moved_a_little_is_the_same_and_one_that_moved_a_lot_is_none():
    box = (10, 10, 50, 50, 0.8, 1)
    assert matched(detections(box), detections((11, 10, 51, 50, 0.75, 1))) == 1
    assert matched(detections(box), detections((14, 10, 54, 50, 0.8, 1))) == 0
    assert matched(detections(box), detections((10, 10, 50, 50, 0.8, 2))) == 0
    assert matched(detections(box), detections((10, 10, 50, 50, 0.65, 1))) == 0


def test_scores_on_either_side_of_the_threshold_are_the_same_answer():
    over, under = (10, 10, 50, 50, 0.41, 1), (10, 10, 50, 50, 0.39, 1)
    assert matched(detections(over), detections(under)) == 1
    assert matched(detections(under), detections(over)) == 1


def test_a_detection_that_fp32_does_not_make_counts_as_one_that_is_missed():
    box, invented = (10, 10, 50, 50, 0.8, 1), (100, 10, 150, 50, 0.9, 1)
    assert matched(detections(box), detections(box, invented)) == pytest.approx(2 / 3)
    assert matched(detections(box, invented), detections(box)) == pytest.approx(2 / 3)


def test_which_of_two_overlapping_boxes_of_nearly_one_score_suppresses_the_other_is_no_difference():
    left, right = (10, 10, 50, 50, 0.70, 1), (18, 10, 58, 50, 0.71, 1)
    assert matched(detections(left, every=[left, right]), detections(right, every=[right, left])) == 1
    assert matched(detections(left), detections(right)) == 0


def test_detections_are_asked_a_little_below_the_threshold_and_without_suppression_only_where_one_is_missing():
    asked = []

    def finding(*rows):
        def answer(sample, given):
            asked.append(dict(given))
            return detections(*rows)[0]

        return answer

    tested, box = measure("dense-boxes"), (10, 10, 50, 50, 0.8, 1)
    question = [tested.question(PICTURE)]
    base = tested.observe(finding(box), question)
    tested.agreement(base, tested.observe(finding(box), question))
    assert asked == [{"confidence": pytest.approx(0.3)}] * 2
    tested.agreement(base, tested.observe(finding(), question))
    assert asked[3:] == [{"confidence": pytest.approx(0.3), "iou_threshold": 1.0, "max_detections": 3000}]


def test_key_points_belong_to_a_detection():
    ours = detections((10, 10, 50, 50, 0.8, 1))[0] | {"keypoints": np.full((1, 3, 2), 30, np.float32)}
    near, far = (ours | {"keypoints": ours["keypoints"] + shift} for shift in (1.5, 3))
    assert boxes.has_partner(ours, 0, near) and not boxes.has_partner(ours, 0, far)


def test_masks_belong_to_a_detection():
    ours = detections((10, 10, 50, 50, 0.8, 1))[0] | {"image_size": np.array([100, 200])}
    sides = [ours | {"masks": np.array([rectangle(10, 10, 50, bottom)], object)} for bottom in (50, 49, 40)]
    assert boxes.has_partner(sides[0], 0, sides[1]) and not boxes.has_partner(sides[0], 0, sides[2])


def rectangle(left, top, right, bottom):
    pixels = np.zeros((100, 200), np.uint8, order="F")
    pixels[top:bottom, left:right] = 1
    return mask.encode(pixels)["counts"]


def test_classes_agree_when_the_best_is_the_same_or_ties_with_it_in_fp32():
    fp32 = {"scores": np.array([0.5, 0.499, 0.2])}
    for other, same in (([0.6, 0.1, 0.2], 1), ([0.4, 0.41, 0.2], 1), ([0.1, 0.1, 0.2], 0), ([np.nan, 0.6, 0.1], 0)):
        found = measure("classes").agreement([fp32], [{"scores": np.array(other)}])
        assert figure(found, "top1").value == same


def test_embeddings_must_point_the_same_way_whatever_their_length():
    vectors = [{"embeddings": np.array(v, np.float32)} for v in ([1, 0, 0], [1, 0.02, 0], [0, 1, 0])]
    longer = [{"embeddings": 3 * vector["embeddings"]} for vector in vectors]
    assert figure(measure("embeddings").agreement(vectors, longer), "cosine").value == pytest.approx(1)
    turned = [{"embeddings": np.array([1, 0.05, 0])}, *vectors[1:]]
    assert not figure(measure("embeddings").agreement(vectors, turned), "cosine").passes


@pytest.mark.parametrize(("role", "step"), [("", 1e-3), (FEATURES, 8e-3)])
def test_embeddings_that_are_all_the_same_prove_nothing(role, step):
    """Of features the bar is lower: their mean would pass for each, where they are no farther from one another."""
    vectors = [{"embeddings": np.array([1, number * step])} for number in range(20)]
    found = measure("embeddings")
    found.point.role = role
    with pytest.raises(NoSignal, match="proves nothing"):
        found.agreement(vectors, [vectors[10]] * 20)


@pytest.mark.parametrize(("context", "words"), [(32, 15), (77, 34)])
def test_texts_are_no_longer_than_a_tower_reads(context, words):
    """Two tokens a word are more than these texts have, and Perception Encoder reads 30."""
    found = measure("embeddings")
    found.point.pre = TextPreprocess("clip", context)
    texts = [question.sample for question in found.questions()]
    assert max(len(text.split()) for text in texts) == words and len(set(texts)) == len(texts) >= found.least


def test_maps_may_differ_by_what_costs_half_a_percent_of_accuracy():
    base = np.full((4, 5), 2.0, np.float32)
    for factor, passes in ((1.004, True), (1.006, False), (np.nan, False)):
        assert figure(measure("dense-map").agreement([base], [base * factor]), "absrel").passes == passes


@pytest.mark.parametrize("meaning", ["depth", "inverse-depth"])
def test_a_map_that_is_no_number_somewhere_never_passes_over_labels(tmp_path, meaning):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    truth = np.linspace(1, 9, PICTURE[..., 0].size, dtype=np.float32).reshape(PICTURE.shape[:2])
    np.save(tmp_path / "a.npy", truth)
    right = truth if meaning == "depth" else 1 / truth
    found = MEASURES["dense-map"](Point("dense-map", tasks.DEPTH_ESTIMATION), (), meaning)
    data = found.labelled(tmp_path)
    base = found.accuracy(lambda *_: {"values": right}, data)["absrel"]
    broken = found.accuracy(lambda *_: {"values": np.where(truth > 8, np.nan, right)}, data)["absrel"]
    assert base < 1e-3 and not found.accuracies["absrel"].finding("absrel", broken, base).passes


def test_maps_are_compared_in_their_own_unit_and_not_in_that_of_their_range():
    def answer(sample, given):
        return {"map": np.full((2, 2), 65535, np.uint16), "range": np.array([-1, 3], np.float32)}

    assert np.allclose(measure("dense-map").observe(answer, [Question(PICTURE)])[0], 3)


def test_masks_of_prompts_are_compared_one_by_one():
    size = np.array([100, 200])
    ours = [([rectangle(10, 10, 50, 50), rectangle(0, 0, 9, 9)], size)]
    near = [([rectangle(10, 10, 50, 49), rectangle(0, 0, 9, 9)], size)]
    assert figure(measure("promptable-masks").agreement(ours, near), "masks").value == 1
    assert figure(measure("promptable-masks").agreement(ours, [(near[0][0][:1], size)]), "masks").value == 0.5


def test_gaze_may_differ_by_half_a_degree_in_the_mean():
    base = [{"yaw": np.radians([10.0, 20]), "pitch": np.radians([0.0, 5])}]
    for degrees, passes in ((0.4, True), (0.6, False)):
        other = [{name: value + np.radians(degrees) for name, value in base[0].items()}]
        assert figure(measure("gaze").agreement(base, other), "degrees").passes == passes


def test_words_and_tokens_are_counted_in_their_order():
    assert alike("a b c d".split(), "a c d e".split()) == (3, 4)
    found = measure("page-text").agreement([["one", "two"], ["three"]], [["one", "two"], ["tree"]])
    assert figure(found, "words").value == pytest.approx(2 / 3)
    tokens = [{"token_ids": np.array(ids)} for ids in ([1, 2, 3, 4], [1, 2, 9, 4])]
    assert figure(measure("chat").agreement(tokens[:1], tokens[1:]), "tokens").value == 0.75


def test_a_figure_of_nothing_never_passes():
    for schema in ("dense-boxes", "page-text", "chat", "promptable-masks"):
        count, findings = measure(schema).agreement([], [])
        assert count == 0 and not any(finding.passes for finding in findings)


ANSWERS = {
    "dense-boxes": detections((10, 10, 50, 50, 0.8, 1)), "classes": {"scores": np.ones(3)},
    "dense-map": np.ones((2, 2)), "promptable-masks": ([], np.array([2, 2])), "page-text": ["word"],
    "gaze": {"yaw": np.zeros(1), "pitch": np.zeros(1)}, "chat": {"token_ids": np.zeros(1)},
}  # fmt: skip


def test_the_document_of_the_gate_names_every_schema_and_the_bars_of_the_code():
    text = (Path(__file__).parents[3] / "docs" / "precision.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row.split("|")[1])} == MEASURES.keys()
    for schema, answer in ANSWERS.items():
        (row,) = (row for row in rows if f"`{schema}`" in row)
        for finding in measure(schema).agreement([answer], [answer])[1]:
            limit = re.search(r"must be at least (\S+)\.|may be at most (\S+)\.", finding.sentence)
            assert f"`{finding.name}`" in row and row.split("|")[-2].split()[-1] == (limit[1] or limit[2])
