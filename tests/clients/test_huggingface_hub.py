"""The unmodified ``huggingface_hub.InferenceClient`` gets right answers."""

from __future__ import annotations

import base64
from pathlib import Path

import httpx
import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

PHOTO = Path(__file__).parents[2] / "tritonvision" / "data" / "astronaut.png"
FACE, TOWERS, WRITER = "mediapipe-face-detection", "clip/RN50", "tests/small-vlm/1"


def client_of(server_url: str, model: str) -> InferenceClient:
    return InferenceClient(model=f"{server_url}/models/{model}", headers={"x-wait-for-model": "true"})


def test_object_detection_of_bytes_and_of_a_path(server_url: str):
    client = client_of(server_url, FACE)
    by_bytes, by_path = client.object_detection(PHOTO.read_bytes()), client.object_detection(str(PHOTO))
    assert by_bytes == by_path
    (face,) = by_bytes
    assert face.label == "face" and face.score == pytest.approx(0.9217, abs=1e-3)
    box = face.box
    assert all(isinstance(v, int) for v in (box.xmin, box.ymin, box.xmax, box.ymax))
    assert [box.xmin, box.ymin, box.xmax, box.ymax] == pytest.approx([177, 82, 272, 178], abs=1)


def test_a_threshold_changes_the_answer(server_url: str):
    client = client_of(server_url, "yolov8n-640")
    loose, default = client.object_detection(PHOTO, threshold=0.05), client.object_detection(PHOTO)
    assert len(loose) > len(default) >= 1
    assert all(found.score > 0.5 for found in default)
    scores = [found.score for found in loose]
    assert scores == sorted(scores, reverse=True)
    assert client.object_detection(PHOTO, threshold=0.5) == default


def test_image_classification_and_its_settings(server_url: str):
    client = client_of(server_url, "resnet18")
    assert len(client.image_classification(PHOTO)) == 5
    three = client.image_classification(PHOTO, top_k=3, function_to_apply="sigmoid")
    assert len(three) == 3 and three[0].score >= three[1].score >= three[2].score


def test_an_unknown_model_is_a_404_with_a_sentence(server_url: str):
    with pytest.raises(HfHubHTTPError) as caught:
        client_of(server_url, "nobody/nothing").object_detection(PHOTO)
    assert caught.value.response.status_code == 404 and "nobody/nothing" in str(caught.value)


def test_a_wrong_task_is_a_400_that_names_both(server_url: str):
    with pytest.raises(HfHubHTTPError) as caught:
        InferenceClient(model=f"{server_url}/models/resnet18/pipeline/object-detection").object_detection(PHOTO)
    assert caught.value.response.status_code == 400
    assert "classification" in str(caught.value) and "object-detection" in str(caught.value)


def test_zero_shot_image_classification(server_url: str):
    labels = ["an astronaut", "a cat", "a red cup"]
    client = client_of(server_url, TOWERS)
    found = client.zero_shot_image_classification(PHOTO, labels)
    assert sorted(c.label for c in found) == sorted(labels)
    scores = [c.score for c in found]
    assert scores == sorted(scores, reverse=True) and sum(scores) == pytest.approx(1)
    other = client.zero_shot_image_classification(PHOTO, labels, hypothesis_template="{}, drawn")
    assert {c.label: c.score for c in other} != {c.label: c.score for c in found}


def test_feature_extraction_of_texts(server_url: str):
    client = client_of(server_url, TOWERS)
    one, two = client.feature_extraction("a cat"), client.feature_extraction(["a dog", "a cat"])
    assert one.shape == (1, 1024) and two.shape == (2, 1024)
    assert two[1] == pytest.approx(one[0], abs=2e-5) and two[0] != pytest.approx(one[0], abs=2e-2)
    unit = client.feature_extraction("a cat", normalize=True)
    assert unit[0] == pytest.approx(one[0] / np.linalg.norm(one[0]), abs=1e-6)
    with pytest.raises(HfHubHTTPError, match="longer than 75 tokens"):
        client.feature_extraction("a cat " * 100)
    cut = client.feature_extraction("a cat " * 100, truncate=True)
    assert cut == pytest.approx(client.feature_extraction("a cat " * 38, truncate=True), abs=2e-5)


def test_image_to_text_of_a_line_reader_and_of_a_model_that_chats(server_url: str):
    for model in ("tests/small-line/1", WRITER):
        client = client_of(server_url, model)
        first, again = client.image_to_text(PHOTO), client.image_to_text(PHOTO.read_bytes())
        assert first.generated_text == again.generated_text != ""


def test_visual_question_answering(server_url: str):
    client = client_of(server_url, WRITER)
    (found,) = client.visual_question_answering(PHOTO, "What is this?", top_k=1)
    assert found.answer and found.score == 1.0


def test_zero_shot_object_detection_which_the_client_has_no_method_for(server_url: str):
    labels = ["a cat", "an astronaut", "a red cup"]
    body = {
        "inputs": base64.b64encode(PHOTO.read_bytes()).decode(),
        "parameters": {"candidate_labels": labels, "threshold": 0.05},
    }
    url = f"{server_url}/models/tests/small-owl/1"
    answer = httpx.post(url, json=body, headers={"x-wait-for-model": "true"}, timeout=120)
    assert answer.status_code == 200, answer.text
    assert answer.json() and all(found["label"] in labels for found in answer.json())
    assert all(isinstance(v, int) and 0 <= v <= 512 for found in answer.json() for v in found["box"].values())


# ---- chat, whatever the base URL is ----------------------------------------------------------------------------------

HELLO = [{"role": "user", "content": "Hello"}]
WAIT = {"x-wait-for-model": "true"}


def chats(server_url: str) -> list[tuple[InferenceClient, dict[str, str]]]:
    """A client for each form of the address that its documentation knows, and what names the model if that does not."""
    model, named = f"{server_url}/models/{WRITER}", {"model": WRITER}
    models = model, f"{model}/v1", f"{model}/", f"{model}/v1/chat/completions"
    servers = server_url, f"{server_url}/", f"{server_url}/v1", f"{server_url}/v1/chat/completions"
    return [
        *((InferenceClient(base_url=base, headers=WAIT), {}) for base in models),
        *((InferenceClient(base_url=base, headers=WAIT), named) for base in servers),
        (InferenceClient(model=model, headers=WAIT), {}),
        (InferenceClient(model=servers[2], headers=WAIT), named),
    ]


def test_chat_completion_under_every_form_of_the_address(server_url: str):
    said = [client.chat_completion(HELLO, max_tokens=6, **named) for client, named in chats(server_url)]
    texts = {answer.choices[0].message.content for answer in said}
    assert len(texts) == 1 and texts.pop() and {answer.model for answer in said} == {WRITER}
    assert {answer.usage.completion_tokens for answer in said} == {6}


def test_chat_completion_in_pieces_under_every_form_of_the_address(server_url: str):
    wanted = chats(server_url)[0][0].chat_completion(HELLO, max_tokens=6).choices[0].message.content
    for client, named in chats(server_url):
        pieces = list(client.chat_completion(HELLO, max_tokens=6, stream=True, **named))
        assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == wanted
        assert pieces[-1].choices[0].finish_reason == "length"


def test_chat_completion_about_a_picture_and_one_that_cannot_be(server_url: str):
    url = f"data:image/png;base64,{base64.b64encode(PHOTO.read_bytes()).decode()}"
    asked = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
    client, _ = chats(server_url)[0]
    assert client.chat_completion([{"role": "user", "content": asked}], max_tokens=4).choices[0].message.content
    for name, status in (("yolov8n-640", 400), ("nobody/nothing", 404)):
        with pytest.raises(HfHubHTTPError) as caught:
            InferenceClient(base_url=f"{server_url}/models/{name}", headers=WAIT).chat_completion(HELLO)
        assert caught.value.response.status_code == status and name in str(caught.value)


def test_how_an_endpoint_is(server_url: str):
    client = InferenceClient(model=f"{server_url}/models/{FACE}", provider="hf-inference")
    assert client.health_check() is True
    info = client.get_endpoint_info()
    assert info["id"] == FACE and info["pipeline_tag"] == "object-detection"
    assert client.health_check(f"{server_url}/models/nobody/1") is False
    whole = InferenceClient(model=server_url, provider="hf-inference")
    assert whole.health_check() is True and whole.get_endpoint_info()["name"]


def test_document_question_answering_of_a_model_that_writes(server_url: str):
    for path in (WRITER, f"{WRITER}/pipeline/document-question-answering"):
        asked = client_of(server_url, path).document_question_answering
        (found,) = asked(PHOTO, "What is this?", max_answer_len=8, lang="en")
        assert found.answer and found.score == 1.0 and found.start is None


def test_the_answers_cache_is_steered_by_its_header(server_url: str):
    url, photo = f"{server_url}/models/{FACE}", PHOTO.read_bytes()
    told = [
        httpx.post(url, content=photo, headers={**WAIT, **headers}, timeout=60).headers["x-cache"]
        for headers in ({"x-use-cache": "false"}, {}, {"x-use-cache": "0"})
    ]
    assert told == ["miss", "hit", "miss"]
