"""Vi's questions: what is sent to a model, and what its settings mean."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tritonvision import tasks
from tritonvision.errors import InvalidParameter
from tritonvision.grounding.schema import JSON_SCHEMA
from tritonvision.vi.questions import DEFAULTS, question, settings

PLAIN = {"auto_orient": True, "seed": None, "stop": None}


def text_of(asked) -> str:
    """What the user says; the picture comes first."""
    picture, text = asked.messages[-1]["content"]
    assert picture == {"type": "image"}
    return text["text"]


def test_the_defaults_are_those_of_the_document():
    assert settings(None) == tasks.resolve(tasks.VLM.parameters, PLAIN | {
        "max_new_tokens": 512, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "repetition_penalty": 1.0,
    })  # fmt: skip


def test_a_partial_config_keeps_the_other_defaults_and_may_be_an_object():
    given = {"max_new_tokens": 256, "temperature": 0.7, "top_p": 0.9}
    assert settings(given) == settings(None) | given
    assert settings(SimpleNamespace(**given, other=3)) == settings(given)


@pytest.mark.parametrize("config", [{"do_sample": False, "temperature": 7, "top_p": -1}, {"temperature": 0}])
def test_greedy_takes_the_likeliest_token_whatever_else_is_said(config):
    assert settings(config)["temperature"] == 0


def test_seed_and_stop_texts_are_passed_on():
    assert settings({"seed": -1})["seed"] is None and settings({"seed": 7})["seed"] == 7
    assert settings({"stop_strings": "."})["stop"] == ["."] == settings({"stop_strings": (".",)})["stop"]


@pytest.mark.parametrize(("config", "named"), [
    ({"max_tokens": 3}, "max_tokens"), ({"max_new_tokens": 0}, "max_new_tokens"),
    ({"max_new_tokens": 1e308}, "max_new_tokens"), ({"do_sample": 1}, "do_sample"),
    ({"top_p": 0}, "top_p"), ({"top_k": -1}, "top_k"), ({"temperature": "hot"}, "temperature"),
    ({"repetition_penalty": 0}, "repetition_penalty"), ({"stop_strings": [3]}, "stop"),
    (["top_k"], "generation_config"),
    ({"seed": -2}, "seed"),
])  # fmt: skip
def test_a_setting_that_does_not_fit_is_refused_by_name(config, named):
    with pytest.raises(InvalidParameter, match=named):
        settings(config)


def test_a_question_is_sent_as_it_is():
    asked = question("vqa", "", "What color is the car?")
    assert (asked.task, asked.prompt, asked.messages) == (
        "vqa", "What color is the car?", tasks.about_picture("What color is the car?")
    )
    assert question("", "qwen3", "Hello?").task == "vqa" and question("", "", "Hi", task="freeform").task == "freeform"


@pytest.mark.parametrize("prompt", [None, "", "  \n"])
def test_a_model_of_questions_has_to_be_asked_one(prompt):
    with pytest.raises(InvalidParameter, match="asked a question"):
        question("vqa", "", prompt)


def test_a_run_of_phrases_needs_no_prompt_and_is_told_the_schema():
    for convention in ("", "qwen2_5"):
        asked = question("phrase-grounding", convention, None)
        system, user = asked.messages
        assert system["role"] == "system" and '"phrase_grounding"' in system["content"][0]["text"]
        assert asked.prompt == text_of(asked) and user["role"] == "user"
    assert text_of(question("phrase-grounding", "", "Identify all objects")) == "Identify all objects"


@pytest.mark.parametrize(("convention", "prompt", "sent"), [
    ("qwen3", "A cat?", 'A cat? Answer in JSON, a list of {"bbox_2d": [x1, y1, x2, y2], "label": "..."}.'),
    ("internvl", "Where is <ref>the cat</ref>?", "Where is <ref>the cat</ref>?"), ("paligemma", "cat", "detect cat"),
    ("paligemma", "segment cat", "segment cat"), ("moondream", None, "detect: object"), ("florence", None, "<OD>"),
    ("florence", "a {cat}", "<CAPTION_TO_PHRASE_GROUNDING>a {cat}"),
])  # fmt: skip
def test_a_model_without_a_run_is_asked_in_the_words_of_its_convention(convention, prompt, sent):
    asked = question("", convention, prompt, task="phrase-grounding")
    assert [message["role"] for message in asked.messages] == ["user"] and text_of(asked) == sent


def test_a_model_that_was_never_trained_on_the_schema_is_held_to_it():
    asked = question("", "", "Where?", task="phrase-grounding")
    assert asked.settings["schema"] == JSON_SCHEMA and asked.messages[0]["role"] == "system"
    for other in (("phrase-grounding", ""), ("", "qwen3")):
        assert question(*other, "Where?", task="phrase-grounding").settings["schema"] is None
    assert question("", "", "Where?", task="phrase-grounding", cot=True).settings["schema"] is None


def test_a_schema_of_the_caller_s_comes_before_the_task():
    asked = question("phrase-grounding", "", "Where?", schema={"type": "null"})
    assert (asked.task, asked.settings["schema"]) == ("generic", {"type": "null"}) and len(asked.messages) == 1
    with pytest.raises(InvalidParameter, match="asked a question"):
        question("vqa", "", None, schema={"type": "null"})


def test_thinking_is_asked_for_with_room_for_it():
    asked = question("vqa", "", "Why?", cot=True)
    assert "<think>" in asked.messages[0]["content"][0]["text"] and asked.settings["max_new_tokens"] == 4096
    assert question("vqa", "", "Why?", {"max_new_tokens": 9}, cot=True).settings["max_new_tokens"] == 9
    assert DEFAULTS["max_new_tokens"] == 512


def test_an_unknown_task_is_refused_by_name():
    with pytest.raises(InvalidParameter, match="no task 'detection'"):
        question("vqa", "", "Why?", task="detection")
