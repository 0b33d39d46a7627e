"""Vi's routes: a result or an error for each picture, the request's own errors, streams, and the models."""

from __future__ import annotations

import base64
import json

import pytest
from manifests import manifest_of, publish

from tritonvision import errors

PREDICT, MODEL, SAID = "/vi/v1/predict", "smolvlm-256m", "A cat, 猫 🐈."
RUN = "my-run"
PHRASES = (
    '{"phrase_grounding":{"sentence":"A cat.","groundings":[{"phrase":"A cat","grounding":[[0,256,512,1024]]}]}}'
)
GREEDY = {"do_sample": False}


@pytest.fixture
def source(picture) -> dict:
    return {"type": "base64", "value": base64.b64encode(picture).decode()}


@pytest.fixture
def run(house) -> str:
    """The id of a model whose run was trained for phrases."""
    publish(house.engine.repository.root, [manifest_of(RUN, "vlm", labels=(), asked_as="phrase-grounding")])
    return RUN


def ask(house, source, status: int = 200, **more):
    body = {"run_id": MODEL, "source": source, "user_prompt": "What is this?"}
    answer = house.client.post(PREDICT, json=body | more.pop("body", {}) | more)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_picture_is_asked_about(house, source, picture):
    (pair,) = ask(house, source, generation_config=GREEDY | {"max_new_tokens": 9})["results"]
    assert pair["error"] is None and pair["result"] == {
        "task_type": "vqa", "prompt": "What is this?", "caption": SAID, "raw_output": SAID, "thinking": None,
        "usage": {"prompt_tokens": 71, "completion_tokens": 10}, "finish_reason": "stop",
    }  # fmt: skip
    ((model, messages, pictures, settings),) = house.engine.chats
    assert (model, pictures) == (MODEL, [picture]) and messages[0]["content"][1]["text"] == "What is this?"
    assert settings["max_new_tokens"] == 9 and settings["temperature"] == 0


def test_phrases_have_boxes_in_fractions(house, source, run):
    house.engine.pieces = [PHRASES]
    (pair,) = ask(house, source, run_id=run, user_prompt=None)["results"]
    assert pair["result"]["task_type"] == "phrase-grounding" and pair["result"]["caption"] == "A cat."
    assert pair["result"]["grounded_phrases"] == [{"phrase": "A cat", "bbox": [0.0, 0.25, 0.5, 1.0]}]


def test_each_picture_has_its_own_outcome_in_its_place(house, source):
    bad = {"type": "base64", "value": base64.b64encode(b"no picture").decode()}
    prompts = ["One?", "Two?", "Three?"]
    first, second, third = ask(house, [source, bad, source], user_prompt=prompts)["results"]
    assert first["result"]["prompt"] == "One?" and third["result"]["prompt"] == "Three?"
    assert second["result"] is None and second["error"]["type"] == "ValueError" and second["error"]["message"]


def test_what_every_picture_meets_is_the_request_s_error(house, source):
    house.engine.failure = errors.ServerUnavailable()
    assert ask(house, [source, source], 502).keys() == {"error", "error_code"}
    house.engine.failure = errors.NoRoom(errors.OUT_OF_MEMORY)
    assert ask(house, source, 507) == {"error": errors.OUT_OF_MEMORY, "error_code": "OutOfMemory"}


@pytest.mark.parametrize(("change", "says"), [
    ({"user_prompt": None}, "asked a question"), ({"user_prompt": ["a", "b"]}, "2 prompts and 1 pictures"),
    ({"source": []}, "no picture"), ({"source": {"type": "file", "value": "/etc/passwd"}}, "type 'file'"),
    ({"generation_config": {"max_tokens": 3}}, "max_tokens"), ({"task_type": "detection"}, "no task 'detection'"),
    ({"generation_config": {"max_new_tokens": 1e308}}, "max_new_tokens"), ({"source": None}, "source"),
    ({"run_id": "yolov8n-640"}, "object-detection"),
])  # fmt: skip
def test_a_request_that_does_not_fit_is_refused_in_a_sentence(house, source, change, says):
    told = ask(house, source, 400, body=change)
    assert says in told["error"] and told["error_code"] == "InvalidRequest" and house.engine.chats == []


def test_an_unknown_run_is_not_found(house, source):
    assert ask(house, source, 404, run_id="nobody/1")["error_code"] == "ResourceNotFound"


def test_more_pictures_than_one_request_may_hold_are_refused(house_with, source):
    house = house_with(max_batch=2)
    assert "2" in ask(house, [source] * 3, 400)["error"]
    assert len(ask(house, [source] * 2)["results"]) == 2


def test_an_answer_is_streamed_with_the_result_at_the_end(house, source):
    body = {"run_id": MODEL, "source": source, "user_prompt": "What is this?", "stream": True}
    answer = house.client.post(PREDICT, json=body)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert answer.headers["content-type"].startswith("text/event-stream") and events[-1] == "[DONE]"
    *pieces, last = map(json.loads, events[:-1])
    assert [piece["text"] for piece in pieces] == house.engine.pieces
    assert last["results"][0]["result"]["caption"] == SAID
    assert "one picture" in ask(house, [source, source], 400, stream=True)["error"]
    house.engine.failure = errors.InvalidPicture()
    assert ask(house, source, 400, stream=True)["error_code"] == "InvalidRequest"


def test_the_models_that_write_are_told(house, run):
    listed = house.client.get("/vi/v1/models").json()["models"]
    assert [model["run_id"] for model in listed] == [run, MODEL]
    told = house.client.get(f"/vi/v1/models/{run}").json()
    assert told == listed[0] and (told["task_type"], told["ready"]) == ("phrase-grounding", False)
    assert house.client.get("/vi/v1/models/nobody/1").status_code == 404
    assert house.client.get("/vi/v1/models/yolov8n-640").json()["error_code"] == "ResourceNotFound"
