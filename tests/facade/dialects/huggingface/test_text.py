"""The Hugging Face dialect's tasks with texts: candidate labels, features, and generated text."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from manifests import FLORENCE, publish

from tritonvision.errors import InvalidParameter, ModelLoading
from tritonvision.facade import service as desk_module

TOWERS, PHRASES, WRITER, LINES = "clip/ViT-B-32", "grounding-dino-tiny", "smolvlm-256m", "trocr-base-printed"
CLASSIFIER = "resnet18"
LABELS = ["a cat", "an astronaut", "猫"]
SAID = "A cat, 猫 🐈."
WAIT = {"x-wait-for-model": "true"}


@pytest.fixture
def ready(house):
    """The house with its models loaded."""
    for name in (TOWERS, PHRASES, WRITER, LINES, CLASSIFIER):
        house.client.post("/model/add", json={"model_id": name})
    return house


def vector_of(data: bytes) -> np.ndarray:
    """A float32 ``[4]`` that depends on the bytes, as the memory engine computes it."""
    return np.random.default_rng(list(data[-64:])).normal(size=(1, 4)).astype(np.float32)[0]


def b64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def post(house, path: str, **body):
    return house.client.post(path if path.startswith("/") else f"/models/{path}", json=body)


def answer(house, path: str, **body):
    found = post(house, path, **body)
    assert found.status_code == 200, found.text
    return found.json()


def refusal(house, path: str, **body) -> str:
    found = post(house, path, **body)
    assert found.status_code == 400, found.text
    assert isinstance(found.json()["error"], str) and set(found.json()) == {"error"}
    return found.json()["error"]


# ---- boxes of candidate labels ---------------------------------------------------------------------------------------


def test_boxes_carry_the_candidate_labels_verbatim(ready, picture):
    assert answer(ready, PHRASES, inputs=b64(picture), parameters={"candidate_labels": LABELS}) == [
        {"score": pytest.approx(0.9), "label": "an astronaut", "box": dict(xmin=1, ymin=2, xmax=21, ymax=22)},
        {"score": pytest.approx(0.6), "label": "猫", "box": dict(xmin=30, ymin=10, xmax=40, ymax=30)},
    ]


def test_threshold_and_top_k_reach_the_model(ready, picture):
    ready.client.headers["x-use-cache"] = "false"
    for more in ({}, {"threshold": 0.7, "top_k": 3}, {"threshold": None, "top_k": None}, {"threshold": 0}):
        post(ready, PHRASES, inputs=b64(picture), parameters={"candidate_labels": LABELS, **more})
    asked = [(p["texts"], p["confidence"], p["max_detections"]) for _, _, p, _ in ready.engine.asked]
    assert asked == [(LABELS, 0.1, 300), (LABELS, 0.7, 3), (LABELS, 0.1, 300), (LABELS, 0.0, 300)]
    assert all(p["iou_threshold"] is None for _, _, p, _ in ready.engine.asked)


def test_labels_may_be_one_text_also_beside_raw_bytes(ready, picture):
    answer(ready, PHRASES, inputs=b64(picture), parameters={"candidate_labels": "a cat, a dog ,fox"})
    query = {"candidate_labels": "a cat,a dog,fox", "threshold": "0.1"}
    raw = ready.client.post(f"/models/{PHRASES}", content=picture, params=query)
    assert raw.status_code == 200
    assert [p["texts"] for _, _, p, _ in ready.engine.asked] == [["a cat", "a dog", "fox"]] * 2


@pytest.mark.parametrize("model", [PHRASES, TOWERS])
@pytest.mark.parametrize("labels", [
    [], "", " , ", ["cat", ""], ["cat", 5], 5, {"a": 1}, ["cat", "cat"], "cat,cat",
    [f"{i}" for i in range(600)],
])  # fmt: skip
def test_bad_labels_are_a_400(ready, picture, model, labels):
    path = f"/models/{model}" if model == PHRASES else f"/pipeline/zero-shot-image-classification/{model}"
    assert "candidate_labels" in refusal(ready, path, inputs=b64(picture), parameters={"candidate_labels": labels})


def test_a_trailing_comma_of_labels_is_ignored_and_an_empty_label_in_a_list_refused(ready, picture):
    found = answer(ready, TOWERS, inputs=b64(picture), parameters={"candidate_labels": "cat, dog,"})
    assert {one["label"] for one in found} == {"cat", "dog"}
    told = refusal(ready, TOWERS, inputs=b64(picture), parameters={"candidate_labels": ["cat", " "]})
    assert told == "One of the 'candidate_labels' is empty."


def test_parameters_at_the_root_are_overridden_by_those_of_the_object(ready, picture):
    found = answer(ready, TOWERS, inputs=b64(picture), candidate_labels=LABELS)
    assert {one["label"] for one in found} == set(LABELS)
    assert found == answer(ready, TOWERS, inputs=b64(picture), parameters={"candidate_labels": LABELS})
    inner = {"candidate_labels": ["x", "y"]}
    both = answer(ready, TOWERS, inputs=b64(picture), candidate_labels=LABELS, parameters=inner)
    assert {one["label"] for one in both} == {"x", "y"}
    answer(ready, PHRASES, inputs=b64(picture), candidate_labels=LABELS, threshold=0.7)
    assert ready.engine.asked[-1][2]["confidence"] == 0.7


def test_a_detector_needs_labels_and_a_picture(ready, picture):
    assert "candidate_labels" in refusal(ready, PHRASES, inputs=b64(picture))
    assert "candidate_labels" in refusal(ready, PHRASES, inputs=b64(picture), parameters={"candidate_labels": None})
    assert "inputs" in refusal(ready, PHRASES, inputs=[], parameters={"candidate_labels": LABELS})
    for bad in ({"threshold": 2}, {"top_k": 0}, {"top_k": "many"}):
        name = next(iter(bad))
        assert name in refusal(ready, PHRASES, inputs=b64(picture), parameters={"candidate_labels": LABELS, **bad})


# ---- classes of candidate labels -------------------------------------------------------------------------------------


def likely(picture: bytes, texts: list[str]) -> np.ndarray:
    one, others = vector_of(picture).astype(float), np.stack([vector_of(t.encode()) for t in texts]).astype(float)
    logits = 100 * (others @ one) / np.linalg.norm(one) / np.linalg.norm(others, axis=1)
    return np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()


def test_classes_are_a_softmax_over_the_candidates_best_first(ready, picture):
    found = answer(ready, TOWERS, inputs=b64(picture), parameters={"candidate_labels": LABELS})
    wanted = dict(zip(LABELS, likely(picture, [f"This is a photo of {n}." for n in LABELS]), strict=True))
    assert {c["label"]: c["score"] for c in found} == pytest.approx(wanted, abs=1e-6)
    scores = [c["score"] for c in found]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    assert max(scores) < 1 - 1e-9 and set(found[0]) == {"label", "score"}


def test_the_template_is_the_callers_and_only_its_place_is_filled(ready, picture):
    for template in ("{}", "a {} in {}", "{0} {}", "{}{a.b}"):
        parameters = {"candidate_labels": ["cat", "dog"], "hypothesis_template": template}
        answer(ready, TOWERS, inputs={"image": b64(picture)}, parameters=parameters)
        texts = [sample["text"].decode() for sample in ready.engine.samples[-1][1]]
        assert texts == [template.replace("{}", name) for name in ("cat", "dog")]
    for template in ("a photo", "", 5, ["{}"]):
        parameters = {"candidate_labels": ["cat", "dog"], "hypothesis_template": template}
        assert "hypothesis_template" in refusal(ready, TOWERS, inputs=b64(picture), parameters=parameters)


# ---- features --------------------------------------------------------------------------------------------------------


def test_a_picture_has_one_vector(ready, picture):
    wanted = vector_of(picture)
    raw = ready.client.post(f"/models/{TOWERS}", content=picture).json()
    assert np.array(raw, np.float32) == pytest.approx(wanted[None])
    for inputs in (b64(picture), {"image": b64(picture)}, f"data:image/jpeg;base64,{b64(picture)}"):
        assert answer(ready, TOWERS, inputs=inputs, parameters={"pool": True}) == raw
    assert answer(ready, f"{TOWERS}/pipeline/image-feature-extraction", inputs=b64(picture)) == raw
    unit = np.array(answer(ready, TOWERS, inputs=b64(picture), parameters={"normalize": True}), np.float32)
    assert unit[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)
    query = ready.client.post(f"/models/{TOWERS}", content=picture, params={"normalize": "true"}).json()
    assert np.array(query, np.float32) == pytest.approx(unit)


def test_a_classifier_has_features_where_the_path_asks_for_them(ready, picture):
    path = f"/pipeline/image-feature-extraction/{CLASSIFIER}"
    assert np.array(answer(ready, path, inputs=b64(picture)), np.float32) == pytest.approx(vector_of(picture)[None])
    unit = np.array(answer(ready, path, inputs=b64(picture), parameters={"normalize": True}))
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)
    assert "label" in answer(ready, CLASSIFIER, inputs=b64(picture))[0]
    assert ready.client.get(f"/models/{CLASSIFIER}").json()["pipeline_tag"] == "image-classification"


def test_texts_have_a_row_each(ready):
    one = np.array(answer(ready, TOWERS, inputs="a cat"), np.float32)
    two = np.array(answer(ready, TOWERS, inputs=["a dog", "a cat"]), np.float32)
    assert one.shape == (1, 4) and two.shape == (2, 4)
    assert one[0] == pytest.approx(vector_of(b"a cat")) and two[1] == pytest.approx(one[0])
    for more in ({"normalize": True}, {"parameters": {"normalize": True}}):
        unit = np.array(answer(ready, f"/pipeline/feature-extraction/{TOWERS}", inputs="a cat", **more), np.float32)
        assert unit[0] == pytest.approx(one[0] / np.linalg.norm(one[0]), abs=1e-6)


def test_base64_of_no_picture_is_read_as_a_text(ready):
    for text in ("cat", "QUJD", "", "/9j/", "word " * 30):
        answer(ready, TOWERS, inputs=text)
        assert ready.engine.samples[-1][1] == [{"text": text.encode()}]


def test_a_task_in_the_path_decides_how_inputs_are_read(ready, picture):
    path = f"/models/{TOWERS}/pipeline/feature-extraction"
    answer(ready, path, inputs=b64(picture)[:60])
    assert ready.engine.samples[-1][1] == [{"text": b64(picture)[:60].encode()}]
    answer(ready, path, inputs="https://example.org/a.png")
    assert "picture" in refusal(ready, f"/pipeline/image-feature-extraction/{TOWERS}", inputs="a cat")
    assert "inputs" in refusal(ready, f"/pipeline/image-feature-extraction/{TOWERS}", inputs=["a", "b"])
    raw = ready.client.post(path, content=picture)
    assert raw.status_code == 400 and "inputs" in raw.json()["error"]


@pytest.mark.parametrize("body", [
    {"inputs": []}, {"inputs": ["a", 5]}, {"inputs": [["a"]]}, {"inputs": 5}, {"inputs": None}, {"inputs": {}},
    {"inputs": ["x"] * 600}, {"inputs": "a", "normalize": "yes"}, {"inputs": "a", "encoding_format": "base64"},
])  # fmt: skip
def test_bad_texts_are_a_400(ready, body):
    refusal(ready, TOWERS, **body)


def test_a_text_is_truncated_only_on_request(ready):
    for more in ({}, {"truncate": False}, {"truncate": None}):
        answer(ready, TOWERS, inputs="a cat", **more)
    assert all("truncate" not in settings for _, _, settings in ready.engine.samples)
    right = {"truncate": True, "truncation_direction": "right"}
    for body in ({"truncate": True}, {"parameters": {"truncate": True}}, right):
        answer(ready, TOWERS, inputs=f"a cat {len(body)}", **body)
        assert ready.engine.samples[-1][2]["truncate"] is True
    assert "truncation_direction" in refusal(ready, TOWERS, inputs="a", truncate=True, truncation_direction="left")
    assert "truncate" in refusal(ready, TOWERS, inputs="a", truncate="yes")


def test_features_of_patches_are_refused(ready, picture):
    assert "pool" in refusal(ready, TOWERS, inputs=b64(picture), parameters={"pool": False})


# ---- what a model writes ---------------------------------------------------------------------------------------------


def test_a_line_is_a_list_of_one_text(ready, picture):
    assert ready.client.post(f"/models/{LINES}", content=picture).json() == [{"generated_text": "a line"}]
    more = {"max_new_tokens": 7, "generation_parameters": {"num_beams": 4, "max_new_tokens": 9, "do_sample": True}}
    answer(ready, LINES, inputs=b64(picture), parameters=more)
    settings = ready.engine.asked[-1][2]
    assert (settings["max_new_tokens"], settings["num_beams"]) == (7, 4) and "temperature" not in settings


def test_javascript_gets_an_object(ready, picture):
    headers = {"user-agent": "@huggingface/inference/4.0.0 browser"}
    found = ready.client.post(f"/models/{LINES}", content=picture, headers=headers).json()
    assert found == {"generated_text": "a line"}


def test_a_picture_is_described(ready, picture):
    assert ready.client.post(f"/models/{WRITER}", content=picture).json() == [{"generated_text": SAID}]
    ((model, messages, pictures, settings),) = ready.engine.chats
    assert (model, pictures) == (WRITER, [picture])
    assert messages[0]["content"] == [{"type": "image"}, {"type": "text", "text": "Describe this image."}]
    assert (settings["temperature"], settings["max_new_tokens"]) == (0.0, 512)
    answer(ready, WRITER, inputs=b64(picture), parameters={"prompt": "Count the cats."})
    assert ready.engine.chats[-1][1][0]["content"][1]["text"] == "Count the cats."


@pytest.mark.parametrize("name", ["generation_parameters", "generate_kwargs"])
def test_generation_settings_reach_the_model(ready, picture, name):
    for inner, wanted in (
        ({"max_new_tokens": 9, "temperature": 0.7, "top_p": 0.5, "typical_p": 1, "auto_orient": 5}, 0.7),
        ({"max_new_tokens": 9, "top_p": 0.5, "do_sample": False, "temperature": 0.7}, 0.0),
        ({"max_new_tokens": 9, "top_p": 0.5, "do_sample": True}, 1.0),
    ):
        answer(ready, WRITER, inputs=b64(picture), parameters={name: inner})
        settings = ready.engine.chats[-1][3]
        assert (settings["max_new_tokens"], settings["temperature"], settings["top_p"]) == (9, wanted, 0.5)


@pytest.mark.parametrize("parameters", [
    {"max_new_tokens": 0}, {"max_new_tokens": "many"}, {"generation_parameters": [1]},
    {"generation_parameters": {"max_new_tokens": -1}},
])  # fmt: skip
def test_bad_generation_is_a_400(ready, picture, parameters):
    for model in (WRITER, LINES):
        refusal(ready, model, inputs=b64(picture), parameters=parameters)


def test_a_question_is_read_at_every_place_of_the_body(ready, picture):
    text = b64(picture)
    for body in (
        {"inputs": text, "parameters": {}, "question": "How many?", "image": text},
        {"inputs": {"image": text, "question": "How many?"}, "parameters": {"top_k": 3}},
    ):
        assert answer(ready, WRITER, **body) == [{"answer": SAID, "score": 1.0}]
        assert ready.engine.chats[-1][1][0]["content"][1]["text"] == "How many?"
    path = f"/pipeline/visual-question-answering/{WRITER}"
    for bad in ({}, {"question": ""}, {"question": 5}):
        assert "question" in refusal(ready, path, inputs=text, **bad)


def test_a_page_is_asked_about_in_the_words_of_document_question_answering(ready, picture):
    path, page = f"/pipeline/document-question-answering/{WRITER}", {"image": b64(picture), "question": "Which number?"}
    more = {"lang": "en", "word_boxes": [["A", [0, 0, 9, 9]]], "top_k": 3, "max_answer_len": 9}
    assert answer(ready, path, inputs=page, parameters=more) == [{"answer": SAID, "score": 1.0}]
    ((_, messages, pictures, settings),) = ready.engine.chats
    assert messages[0]["content"][1]["text"] == "Which number?" and pictures == [picture]
    assert settings["max_new_tokens"] == 9
    for bad in ({"image": b64(picture)}, {"image": b64(picture), "question": " "}):
        assert "question" in refusal(ready, path, inputs=bad)


@pytest.mark.parametrize("model", [WRITER, LINES])
def test_tasks_that_generate_text_need_a_picture(ready, model):
    for inputs in ("%%%", None, ["a"], "QUJD"):
        refusal(ready, model, inputs=inputs)


# ---- which task, and readiness ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "task", "tag"), [
    (TOWERS, "object-detection", "image-feature-extraction"),
    (PHRASES, "image-classification", "zero-shot-object-detection"),
    (WRITER, "image-feature-extraction", "image-to-text"), (LINES, "visual-question-answering", "image-to-text"),
])  # fmt: skip
def test_another_task_in_the_path_is_a_400_that_names_both(ready, picture, model, task, tag):
    told = refusal(ready, f"/pipeline/{task}/{model}", inputs=b64(picture))
    assert task in told and tag in told
    assert ready.client.get(f"/models/{model}").json()["pipeline_tag"] == tag


REQUESTS = [
    (TOWERS, {}), (TOWERS, {"parameters": {"candidate_labels": LABELS}}), (TOWERS, {"inputs": "a cat"}),
    (PHRASES, {"parameters": {"candidate_labels": LABELS}}), (WRITER, {}), (WRITER, {"question": "What?"}), (LINES, {}),
]  # fmt: skip


@pytest.mark.parametrize(("model", "body"), REQUESTS)
def test_a_model_that_is_not_loaded_is_a_503_until_it_is_loaded(house, picture, model, body):
    body = {"inputs": b64(picture), **body}
    refused = post(house, model, **body)
    assert refused.status_code == 503 and refused.headers["retry-after"] == "2"
    assert model in refused.json()["error"] and refused.json()["estimated_time"] == 2.0
    found = post(house, model, **body)
    assert found.status_code == 200 and float(found.headers["x-compute-time"]) >= 0


@pytest.mark.parametrize(("model", "body"), REQUESTS)
def test_a_waiting_caller_is_answered_after_a_slow_load(house, picture, monkeypatch, model, body):
    monkeypatch.setattr(desk_module, "_LOOK", 0.01)
    load, refusals = house.engine.load, [ModelLoading(retry_after=1)] * 3

    async def slow(*args, **options):
        if refusals:
            raise refusals.pop()
        return await load(*args, **options)

    monkeypatch.setattr(house.engine, "load", slow)
    found = house.client.post(f"/models/{model}", json={"inputs": b64(picture), **body}, headers=WAIT)
    assert found.status_code == 200 and not refusals


def test_refusals_of_the_model_have_the_dialects_body(ready, picture):
    ready.engine.failure = InvalidParameter("A text is longer than 75 tokens.")
    assert "75 tokens" in refusal(ready, TOWERS, inputs="word " * 100)
    assert "75 tokens" in refusal(ready, WRITER, inputs=b64(picture))


def test_features_are_json_numbers(ready, picture):
    found = ready.client.post(f"/models/{TOWERS}", content=picture)
    assert found.headers["content-type"] == "application/json"
    assert all(type(value) is float for value in json.loads(found.text)[0])


# ---- a model that reads tasks ----------------------------------------------------------------------------------------


def test_a_model_that_reads_tasks_writes_a_caption_and_detects_objects(house, picture):
    publish(house.engine.repository.root, [FLORENCE])
    house.engine.pieces = ["a cat<loc_100><loc_200><loc_500>", "<loc_999>a dog<loc_0><loc_0><loc_5><loc_500>"]
    found = house.client.post("/pipeline/object-detection/florence-2-base", content=picture, headers=WAIT).json()
    boxes = [(one["label"], one["score"], *one["box"].values()) for one in found]
    assert boxes == [("a cat", 1.0, 4, 6, 20, 29), ("a dog", 1.0, 0, 0, 0, 15)]
    (told,) = house.client.post("/models/florence-2-base", content=picture, headers=WAIT).json()
    assert told["generated_text"] == "".join(house.engine.pieces)
    prompts = [chat[1][0]["content"][1]["text"] for chat in house.engine.chats]
    assert prompts == ["<OD>", "<CAPTION>"]
    refused = house.client.post("/pipeline/object-detection/smolvlm-256m", content=picture, headers=WAIT)
    assert refused.status_code == 400 and "not object-detection" in refused.json()["error"]
