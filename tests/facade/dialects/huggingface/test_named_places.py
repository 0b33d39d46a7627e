"""Candidate labels asked of models that write places: each in the words of its family, its boxes under the labels."""

from __future__ import annotations

import base64

import pytest
from manifests import manifest_of, publish

WAIT = {"x-wait-for-model": "true"}
LABELS = ["a cat", "Dog"]


@pytest.fixture
def ask(house, picture):
    """``ask(convention, pieces, parameters)``: the answer of a model of that convention that writes these pieces."""

    def ask(convention, pieces, **parameters):
        model = f"mine/{convention or 'plain'}"
        if house.engine.repository.get(model) is None:
            publish(house.engine.repository.root, [manifest_of(model, "vlm", labels=(), grounding=convention)])
        house.engine.pieces = pieces
        body = {"inputs": base64.b64encode(picture).decode(), "parameters": {"candidate_labels": LABELS, **parameters}}
        return house.client.post(f"/models/{model}", json=body, headers=WAIT)

    ask.prompts = lambda: [chat[1][0]["content"][1]["text"] for chat in house.engine.chats]
    ask.engine = house.engine
    return ask


def test_boxes_have_the_labels_that_were_asked_for_and_score_1(ask):
    whole = "<loc0000><loc0000><loc1023><loc1023> fox"
    answer = ask("paligemma", ["<loc0000><loc0000><loc0512><loc0512> A CAT ; ", whole])
    assert answer.json() == [{"score": 1.0, "label": "a cat", "box": {"xmin": 0, "ymin": 0, "xmax": 20, "ymax": 15}}]
    assert ask.prompts() == ["detect a cat ; Dog"]


def test_a_family_that_is_asked_one_by_one_is_asked_for_each_label(ask, picture):
    places = ['{"object": "x", "objects": ', '[{"x_min": 0, "y_min": 0, "x_max": 0.5, "y_max": 1}]}']
    answer = ask("moondream", places, max_new_tokens=9)
    assert [one["label"] for one in answer.json()] == LABELS and ask.prompts() == ["detect: a cat", "detect: Dog"]
    assert [(pictures, given["max_new_tokens"]) for _, _, pictures, given in ask.engine.chats] == [([picture], 9)] * 2
    assert len(ask("moondream", places, top_k=1).json()) == 1


@pytest.mark.parametrize(("convention", "parameters", "says"), [
    ("florence", {"candidate_labels": [f"thing {n}" for n in range(9)]}, "at most 8"),
    ("florence", {"candidate_labels": ["a <OD>"]}, "in the middle"), ("qwen3", {"candidate_labels": []}, "1 to"),
    ("qwen3", {"threshold": 7}, "threshold"),
])  # fmt: skip
def test_what_cannot_be_asked_is_a_400(ask, convention, parameters, says):
    answer = ask(convention, ["A cat."], **parameters)
    assert answer.status_code == 400 and says in answer.json()["error"]


def test_who_writes_no_places_is_not_asked_for_labels(ask):
    answer = ask("", ["A cat."])
    assert answer.status_code == 200 and answer.json() == [{"generated_text": "A cat."}]
