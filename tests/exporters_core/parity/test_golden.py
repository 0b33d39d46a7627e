"""What a published model is asked at each load: recorded of the graphs that passed the gate, small, with its bars."""

from __future__ import annotations

import json
from string import ascii_lowercase as LETTERS

import numpy as np
import pytest

from tritonvision import golden
from tritonvision.differences import ROWS, VALUES
from tritonvision.exporters.contract import Tolerance
from tritonvision.exporters.parity.checks.base import words_of
from tritonvision.exporters.parity.checks.boxes import Boxes
from tritonvision.exporters.parity.checks.classes import Classes
from tritonvision.pictures import decode
from tritonvision.publication import Repository

FACE = "mediapipe-face-detection"


@pytest.fixture(scope="module")
def published(repository):
    manifest = Repository(repository).get(FACE)
    return repository, manifest, golden.read(repository, manifest)


def test_a_published_model_has_a_question_and_its_stages(published, family):
    _, _, found = published
    (question,) = found.questions
    assert [stage.name for stage in question.stages] == ["answer", "pre", "network", "post"]
    answer, pre, network, post = question.stages
    assert (answer.kind, post.kind, pre.kind, network.kind) == (ROWS, ROWS, VALUES, VALUES)
    assert (pre.model, network.model, post.model) == ("pre--square-128", f"net--{FACE}", "post--keypoints")
    assert answer.bars["boxes"] == family.tolerance.answer("pixels")
    assert network.bars["scores"] >= family.tolerance.tensor("scores")


def test_every_file_of_it_is_vouched_for_and_all_are_small(published):
    root, manifest, found = published
    names = {path.name for path in found.folder.iterdir()}
    assert {f"{FACE}/golden/{name}" for name in names} == {name for name in manifest.files if "/golden/" in name}
    assert sum(path.stat().st_size for path in found.folder.iterdir()) < 600_000


def test_the_picture_is_larger_than_the_network_and_not_square(published):
    _, _, found = published
    inputs, _ = found.load(found.questions[0].stages[0])
    assert decode(inputs["image"].reshape(-1)[0]).shape == (760, 1100, 3)


def test_the_answer_holds_something(published):
    _, _, found = published
    for stage in found.questions[0].stages[::3]:
        _, outputs = found.load(stage)
        assert outputs["boxes"].shape[1] >= 1


class Network:
    labels = ()

    def golden(self):
        return []


@pytest.mark.parametrize("count", [0, 1, 4, 6, 40, 300])
def test_no_score_lies_on_the_threshold_that_is_chosen(count):
    scores = np.sort(np.random.default_rng(count).uniform(0.01, 0.95, count).astype(np.float32))[::-1]

    def answer(confidence=0.4, **_):
        return {"scores": scores[scores > confidence]}

    given = Boxes(None, Network(), Tolerance({}), "user").golden_settings(answer)
    over = len(answer(**given)["scores"])
    if count > 5:
        assert 5 <= over <= 30 and np.abs(scores - given["confidence"]).min() > 1e-4
    else:
        assert over == count and given["max_detections"] == 10


def test_a_classifier_is_asked_for_the_classes_over_the_widest_gap():
    scores = np.float32([0.1, 0.3, 0.29, 0.05, 0.04, 0.03])
    given = Classes(None, Network(), Tolerance({}), "user").golden_settings(lambda **_: {"scores": scores})
    assert given == {"confidence": pytest.approx(0.195)}
    assert Classes(None, Network(), Tolerance({}), "user").golden_settings(lambda **_: {"scores": scores[:1]}) == {
        "confidence": 0.0
    }


def test_the_text_of_a_golden_question_comes_from_the_whole_vocabulary():
    vocabulary = {f"{a}{b}ord</w>": 26 * i + j for i, a in enumerate(LETTERS) for j, b in enumerate(LETTERS)}
    words = words_of(json.dumps({"model": {"vocab": vocabulary | {"no": 9000, "1234</w>": 9001}}}).encode()).split()
    places = [vocabulary[f"{word}</w>"] for word in words]
    assert len(words) == 16 and places == sorted(places)
    assert places[0] < 676 / 16 and places[-1] > 676 * 15 / 16 - 1 and max(np.diff(places)) < 676 / 15
    assert words_of(b'{"model": {"vocab": {"a": 1}}}') == words_of(b"{}") == ""
