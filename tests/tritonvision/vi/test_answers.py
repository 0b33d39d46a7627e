"""Vi's results: both spellings, boxes as fractions of the picture, and no text that is a failure."""

from __future__ import annotations

import json

import pytest

from tritonvision.grounding import Grounded
from tritonvision.vi.answers import answer
from tritonvision.vi.questions import question

SIZE = 480, 640
SCHEMA = (
    '{"phrase_grounding":{"sentence":"A cat on a mat.","groundings":['
    '{"phrase":"A cat","grounding":[[0,256,512,1024],[512,0,1024,256]]},'
    '{"phrase":"a mat","grounding":[[0,0,1024,512]]}]}}'
)


def answered(text, task="phrase-grounding", convention="", **more):
    return answer(question(task, convention, "What is this?"), text, SIZE, convention, **more)


def test_an_answer_has_both_spellings_and_no_phrases():
    result = answered("<think>It purrs.</think> A cat. ", "vqa", usage=(71, 9), finish_reason="stop")
    assert result.caption == result.result.answer == "A cat." and not hasattr(result, "grounded_phrases")
    assert result.prompt == "What is this?" and result.thinking == "It purrs."
    assert result.raw_output == "<think>It purrs.</think> A cat. "
    assert result.to_dict() == {
        "task_type": "vqa", "prompt": "What is this?", "caption": "A cat.", "raw_output": result.raw_output,
        "thinking": "It purrs.", "usage": {"prompt_tokens": 71, "completion_tokens": 9}, "finish_reason": "stop",
    }  # fmt: skip


@pytest.mark.parametrize(("task", "text"), [
    ("vqa", 'Well: {"vqa":{"answer":" A cat. "}}'), ("freeform", '{"freeform":{"caption":"A cat."}}'),
])  # fmt: skip
def test_the_json_of_a_run_is_unpacked(task, text):
    assert answered(text, task).caption == "A cat."
    assert answered('{"vqa": 3} {"freeform": []}', task).caption == '{"vqa": 3} {"freeform": []}'


def test_an_answer_by_a_schema_is_its_json():
    asked = question("vqa", "", "What is this?", schema={"type": "object"})
    result = answer(asked, '{"vqa":{"answer":"x"}}', SIZE, "")
    assert result.task_type == "generic" and result.result == result.caption == '{"vqa":{"answer":"x"}}'


def test_a_phrase_with_several_boxes_is_listed_once_for_each_and_grouped_in_the_result():
    result = answered(SCHEMA)
    assert result.caption == result.result.sentence == "A cat on a mat."
    assert [(one.phrase, one.bbox) for one in result.grounded_phrases] == [
        ("A cat", [0.0, 0.25, 0.5, 1.0]), ("A cat", [0.5, 0.0, 1.0, 0.25]), ("a mat", [0.0, 0.0, 1.0, 0.5]),
    ]  # fmt: skip
    assert [(one.phrase, one.grounding) for one in result.result.groundings] == [
        ("A cat", [[0, 256, 512, 1024], [512, 0, 1024, 256]]), ("a mat", [[0, 0, 1024, 512]]),
    ]  # fmt: skip
    assert result.grounded_phrases[0].bboxes == [[0.0, 0.25, 0.5, 1.0], [0.5, 0.0, 1.0, 0.25]]
    assert json.loads(json.dumps(result.to_dict()))["grounded_phrases"][2] == {
        "phrase": "a mat", "bbox": [0.0, 0.0, 1.0, 0.5],
    }  # fmt: skip


@pytest.mark.parametrize("text", [
    "", "There is nothing.", "[[", "<think>so", '{"phrase_grounding": {"sentence": "So."}}',
])  # fmt: skip
def test_nothing_found_is_a_success(text):
    result = answered(text)
    assert result.grounded_phrases == [] == result.result.groundings and result.raw_output == text


def test_a_polygon_has_the_box_around_it(monkeypatch):
    outline = ((0.2, 0.1), (0.6, 0.3), (0.4, 0.9))
    monkeypatch.setattr("tritonvision.grounding.parse", lambda *_: [Grounded("a cat", polygons=(outline,))])
    assert answered("a cat").grounded_phrases[0].bbox == [0.2, 0.1, 0.6, 0.9]


def test_places_are_read_by_the_task_that_was_asked():
    """``<OD>`` names things, which may be called ``it``; in a caption that is no phrase."""
    said = "it<loc_250><loc_500><loc_500><loc_750>"
    detected = answer(question("", "florence", None, task="phrase-grounding"), said, SIZE, "florence")
    assert [one.phrase for one in detected.grounded_phrases] == ["it"]
    grounded = answer(question("", "florence", "it is", task="phrase-grounding"), said, SIZE, "florence")
    assert grounded.grounded_phrases == []


def test_pixels_are_those_in_which_the_picture_was_read():
    pixels = 28, 56 * 56, 1280 * 28 * 28
    said = '[{"bbox_2d": [161, 119, 322, 476], "label": "cat"}]'
    asked = question("", "qwen2_5", None, task="phrase-grounding")
    (found,) = answer(asked, said, SIZE, "qwen2_5", pixels).grounded_phrases
    assert found.bbox == pytest.approx([0.25, 0.25, 0.5, 1.0])
