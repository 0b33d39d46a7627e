"""Chat under Hugging Face's paths: with the model's name in the path, and without any name."""

from __future__ import annotations

import json

import pytest

from tritonvision.errors import ServerUnavailable
from tritonvision.publication import MANIFEST

WRITER, DETECTOR = "smolvlm-256m", "yolov8n-640"
PATH, ROOT = f"/models/{WRITER}/v1/chat/completions", "/v1/chat/completions"
SAID = "A cat, 猫 🐈."
WAIT = {"x-wait-for-model": "true"}


def body(**more) -> dict:
    return {"model": "dummy", "messages": [{"role": "user", "content": "What is it?"}], **more}


def chunks(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    *sent, nothing = answer.text.split("\n\n")
    assert nothing == ""
    return [json.loads(line.removeprefix("data: ")) for line in sent if line != "data: [DONE]"]


@pytest.mark.parametrize("model", ["dummy", "tgi", "nobody/1", DETECTOR, WRITER, None])
def test_the_path_names_the_model_whatever_the_body_says(house, model):
    answer = house.client.post(PATH, json=body(model=model), headers=WAIT)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == SAID and answer.json()["model"] == WRITER
    assert house.engine.chats[-1][0] == WRITER


@pytest.mark.parametrize("name", ["smolvlm-256m", "smolvlm2-256m", "me/smolvlm-256m/1"])
def test_a_path_takes_every_name_of_a_model_and_no_other(house, name):
    answer = house.client.post(f"/models/{name}/v1/chat/completions", json=body(), headers=WAIT)
    known = name == WRITER
    assert answer.status_code == (200 if known else 404)
    assert known or isinstance(answer.json()["error"], str)


def test_it_streams_under_the_path(house):
    answer = house.client.post(PATH, json=body(stream=True), headers=WAIT)
    assert answer.text.endswith("data: [DONE]\n\n")
    said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks(answer))
    assert said == SAID


def test_a_failure_in_the_middle_is_a_sentence_with_its_kind(house):
    house.engine.late_failure = ServerUnavailable("The process is lost.")
    *_, last = chunks(house.client.post(PATH, json=body(stream=True), headers=WAIT))
    assert last == {"error": "The process is lost.", "error_type": "generation"}


def test_a_model_that_is_not_loaded_is_a_503_unless_the_caller_waits(house):
    answer = house.client.post(PATH, json=body())
    assert answer.status_code == 503 and answer.json()["estimated_time"] == 2.0
    house.client.post("/model/clear")
    assert house.client.post(PATH, json=body(), headers=WAIT).status_code == 200
    house.client.post("/model/clear")
    assert house.client.post(ROOT, json=body(), headers=WAIT).status_code == 200


def test_without_a_name_the_only_model_that_chats_is_asked(house):
    for name in ("dummy", "tgi"):
        answer = house.client.post(ROOT, json=body(model=name))
        assert answer.status_code == 200 and answer.json()["model"] == WRITER


@pytest.mark.parametrize("how_many", [0, 2])
def test_without_a_name_and_with_none_or_several_it_is_a_404(house, how_many):
    first = house.settings.repository / WRITER / MANIFEST
    manifest = json.loads(first.read_text())
    if how_many:
        (house.settings.repository / "other").mkdir()
        (house.settings.repository / "other" / MANIFEST).write_text(json.dumps(manifest | {"id": "other"}))
    else:
        first.unlink()
    answer = house.client.post(ROOT, json=body())
    assert answer.status_code == 404 and f"{how_many} of those" in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("change", [
    {"messages": []}, {"messages": "x"}, {"temperature": 9}, {"n": 2}, {"messages": [{"role": "judge", "content": ""}]},
])  # fmt: skip
def test_errors_have_the_form_of_the_paths_dialect(house, change):
    answer = house.client.post(PATH, json=body(**change), headers=WAIT)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"} and (isinstance(error, str) or all(isinstance(one, str) for one in error))


def test_models_of_other_tasks_and_unknown_models_are_refused(house):
    answer = house.client.post(f"/models/{DETECTOR}/v1/chat/completions", json=body(), headers=WAIT)
    assert answer.status_code == 400 and "object-detection" in answer.json()["error"]
    answer = house.client.post("/models/nobody/1/v1/chat/completions", json=body(), headers=WAIT)
    assert answer.status_code == 404 and "nobody/1" in answer.json()["error"]
    assert house.client.post(PATH, content=b"{").status_code == 400
