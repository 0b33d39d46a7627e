"""The Hugging Face dialect caches answers, and the cases in which it does not."""

from __future__ import annotations

import base64
import json
import os

import pytest

from tritonvision.errors import ServerUnavailable
from tritonvision.publication import MANIFEST

DETECTOR, CLASSIFIER, SEGMENTER, TOWERS, PHRASES, WRITER, LINES, PAGES, DEPTH = (
    "yolov8n-640", "resnet18", "yolov8n-seg-640", "clip/ViT-B-32", "grounding-dino-tiny", "smolvlm-256m",
    "trocr-base-printed", "doctr-db_resnet50", "depth-anything-v2-small",
)  # fmt: skip
WAIT = {"x-wait-for-model": "true"}


@pytest.fixture
def ready(whole_house):
    """A facade with models of every task, whose callers wait for a load."""
    whole_house.client.headers.update(WAIT)
    return whole_house


def b64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def ask(house, model: str, body, **headers: str):
    """The answer, and whether it came from the cache."""
    kind = {"json": body} if isinstance(body, dict) else {"content": body}
    answer = house.client.post(f"/models/{model}", headers=headers, **kind)
    assert answer.status_code == 200, answer.text
    return answer, answer.headers["x-cache"] == "hit"


def count(house) -> int:
    """The number of requests that reached the models."""
    return sum(1 for asked in house.engine.asked if asked[1]) + len(house.engine.samples) + len(house.engine.chats)


def test_a_repeated_request_is_a_hit_that_runs_no_model(ready, picture):
    first, hit = ask(ready, DETECTOR, picture)
    assert not hit and first.headers["x-compute-type"] == "cpu" and float(first.headers["x-compute-time"]) >= 0
    again, hit = ask(ready, DETECTOR, picture)
    assert hit and again.content == first.content and count(ready) == 1
    assert again.headers["x-compute-type"] == "cache" and again.headers["content-type"] == "application/json"
    assert float(again.headers["x-compute-time"]) >= 0


def test_a_picture_has_one_cached_answer_for_every_way_of_sending_it(ready, picture):
    text = b64(picture)
    ways = (
        picture, {"inputs": text}, {"inputs": f"data:image/jpeg;base64,{text}"}, {"image": text},
        {"inputs": text, "parameters": {"threshold": 0.5}}, {"inputs": text, "parameters": {"threshold": None}},
        {"inputs": text, "parameters": {"unknown": 1}}, {"inputs": {"image": text}},
    )  # fmt: skip
    assert [ask(ready, DETECTOR, way)[1] for way in ways] == [False] + [True] * 7
    task = "object-detection"
    for path in ("/models/coco/3", f"/models/{DETECTOR}/pipeline/{task}", f"/pipeline/{task}/coco/3"):
        assert ready.client.post(path, content=picture).headers["x-cache"] == "hit"


@pytest.mark.parametrize("value", ["false", "0", "False", "FALSE"])
def test_a_header_bypasses_the_cache(ready, picture, value):
    assert [ask(ready, DETECTOR, picture, **{"x-use-cache": value})[1] for _ in range(3)] == [False] * 3
    assert count(ready) == 3
    assert ask(ready, DETECTOR, picture)[1], "what was worked out anew is kept"


def test_the_body_can_bypass_the_cache_unless_a_header_overrides_it(ready, picture):
    body = {"inputs": base64.b64encode(picture).decode(), "options": {"use_cache": False}}
    assert [ask(ready, DETECTOR, body)[1] for _ in range(3)] == [False] * 3
    assert ask(ready, DETECTOR, body, **{"x-use-cache": "true"})[1]
    assert ask(ready, DETECTOR, body | {"options": {"use_cache": True}})[1]


@pytest.mark.parametrize("value", ["true", "1", "", "perhaps"])
def test_other_header_values_use_the_cache(ready, picture, value):
    assert [ask(ready, DETECTOR, picture, **{"X-Use-Cache": value})[1] for _ in range(2)] == [False, True]


def test_another_setting_picture_model_or_task_misses_the_cache(ready, picture):
    text = b64(picture)
    asked = [
        (DETECTOR, {}), (DETECTOR, {"threshold": 0.4}), ("mediapipe-face-detection", {}), (CLASSIFIER, {}),
        (CLASSIFIER, {"top_k": 1}), (CLASSIFIER, {"function_to_apply": "sigmoid"}), (TOWERS, {}),
        (TOWERS, {"normalize": True}), (TOWERS, {"candidate_labels": ["a", "b"]}),
        (TOWERS, {"candidate_labels": ["b", "a"]}),
        (TOWERS, {"candidate_labels": ["a", "b"], "hypothesis_template": "{}"}),
        (PHRASES, {"candidate_labels": ["a", "b"]}), (PHRASES, {"candidate_labels": ["a", "b"], "top_k": 1}),
        (DEPTH, {}), (DEPTH, {"depth_map_format": "png16"}), (DEPTH, {"return_tensor": True}), (SEGMENTER, {}),
        (SEGMENTER, {"threshold": 0.5}), (WRITER, {}), (WRITER, {"max_new_tokens": 5}), (WRITER, {"prompt": "What?"}),
        (WRITER, {"generation_parameters": {"top_k": 3}}), (LINES, {}), (LINES, {"max_new_tokens": 5}), (PAGES, {}),
    ]  # fmt: skip
    for wanted in (False, True):
        for model, parameters in asked:
            assert ask(ready, model, {"inputs": text, "parameters": parameters})[1] is wanted, (model, parameters)
    assert not ask(ready, DETECTOR, picture + b"\n")[1], "another file"


def test_texts_are_cached_by_their_contents(ready):
    asked = [{"inputs": "a cat"}, {"inputs": ["a cat", "a dog"]}, {"inputs": "a cat", "normalize": True}]
    assert [ask(ready, TOWERS, body)[1] for body in asked * 2] == [False] * 3 + [True] * 3
    assert ask(ready, TOWERS, {"inputs": "a cat", "parameters": {"normalize": True}})[1]


def test_cached_answers_belong_to_the_key_wherever_it_is_sent(ready, picture):
    text = b64(picture)
    assert not ask(ready, WRITER, {"inputs": text, "question": "What?"})[1]
    assert ask(ready, WRITER, {"inputs": {"image": text, "question": "What?"}})[1]
    assert not ask(ready, WRITER, {"inputs": text, "question": "Who?"})[1]


def test_sampled_answers_are_cached_only_with_a_seed(ready, picture):
    def hits(**given) -> list[bool]:
        body = {"inputs": b64(picture), "parameters": {"generation_parameters": given}}
        return [ask(ready, WRITER, body)[1] for _ in range(2)]

    assert hits(temperature=0.8) == hits(do_sample=True) == [False, False]
    assert hits(temperature=0.8, seed=5) == hits(temperature=0) == hits(do_sample=False, temperature=1) == [False, True]


def test_the_javascript_client_gets_its_own_form(ready, picture):
    python, _ = ask(ready, LINES, picture)
    javascript, hit = ask(ready, LINES, picture, **{"user-agent": "@huggingface/inference/4.0"})
    assert not hit and python.json() == [javascript.json()]


def test_a_model_that_was_published_again_is_asked_again(ready, picture):
    ask(ready, DETECTOR, picture)
    path = ready.settings.repository / DETECTOR / MANIFEST
    manifest = json.loads(path.read_text())
    aside = path.with_name("new")
    aside.write_text(json.dumps(manifest | {"labels": ["a", "b", "c"]}))
    os.replace(aside, path)
    answer, hit = ask(ready, DETECTOR, picture)
    assert not hit and [found["label"] for found in answer.json()] == ["b", "c"]
    assert ask(ready, DETECTOR, picture)[1]


def test_errors_are_not_cached(ready, picture):
    ready.engine.failure = ServerUnavailable()
    for _ in range(2):
        assert ready.client.post(f"/models/{DETECTOR}", content=picture).status_code == 502
    ready.engine.failure = None
    assert not ask(ready, DETECTOR, picture)[1]
    for parameters in ({"threshold": 2}, {"threshold": 2}):
        body = {"inputs": b64(picture), "parameters": parameters}
        assert ready.client.post(f"/models/{DETECTOR}", json=body).status_code == 400


def test_a_url_is_fetched_every_time(ready, picture, monkeypatch):
    async def fetch(self, url, take):
        return picture

    monkeypatch.setattr("tritonvision.facade.inputs.fetch.Fetcher.fetch", fetch)
    assert [ask(ready, DETECTOR, {"inputs": "https://example.org/a.jpg"})[1] for _ in range(2)] == [False, False]


def test_a_cache_of_zero_bytes_keeps_nothing_and_a_small_one_the_latest(whole_house_with, picture):
    house = whole_house_with(response_cache=0)
    house.client.headers.update(WAIT)
    assert [ask(house, DETECTOR, picture)[1] for _ in range(3)] == [False] * 3
    house = whole_house_with(response_cache=2000)
    house.client.headers.update(WAIT)
    assert ask(house, DETECTOR, picture)[1] is False and ask(house, DETECTOR, picture)[1] is True
    for top_k in (1, 2, 3):
        ask(house, CLASSIFIER, {"inputs": b64(picture), "parameters": {"top_k": top_k}})
    assert not ask(house, DETECTOR, picture)[1]


def test_a_hit_needs_no_loaded_model_but_a_published_one(ready, picture):
    ask(ready, DETECTOR, picture)
    ready.client.post("/model/remove", json={"model_id": DETECTOR})
    ready.client.headers.pop("x-wait-for-model")
    assert ask(ready, DETECTOR, picture)[1]
    (ready.settings.repository / DETECTOR / MANIFEST).unlink()
    assert ready.client.post(f"/models/{DETECTOR}", content=picture).status_code == 404
