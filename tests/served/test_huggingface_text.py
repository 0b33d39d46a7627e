"""Hugging Face's tasks with words in them on the whole running server: they say what the other dialects say.

Weights are random, so what is found and written means nothing and is always the same.
"""

from __future__ import annotations

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tritonvision.exporters.parity import text_pages

OWL, DINO, WORLD, TOWERS, LINE, WRITER = (
    "tests/small-owl/1", "tests/small-dino/1", "tests/small-world/1", "clip/RN50", "tests/small-line/1",
    "tests/small-vlm/1",
)  # fmt: skip
NAMES = ["a cat", "an astronaut", "a red cup"]


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=180, headers={"x-wait-for-model": "true"}) as client:
        yield client


def answer(http: httpx.Client, path: str, body: dict):
    found = http.post(path, json=body)
    assert found.status_code == 200, found.text
    return found.json()


def image(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def asked(data: bytes, **parameters) -> dict:
    return {"inputs": base64.b64encode(data).decode(), "parameters": parameters}


@pytest.mark.parametrize("model", [OWL, DINO, WORLD])
def test_boxes_are_those_of_the_other_dialect(http, photo, model):
    found = answer(http, f"/models/{model}", asked(photo, candidate_labels=NAMES, threshold=0.05, top_k=20))
    assert 0 < len(found) <= 20
    scores = [one["score"] for one in found]
    assert scores == sorted(scores, reverse=True) and min(scores) > 0.05
    for one in found:
        box = one["box"]
        assert one["label"] in NAMES and all(type(value) is int for value in box.values())
        assert 0 <= box["xmin"] <= box["xmax"] <= 512 and 0 <= box["ymin"] <= box["ymax"] <= 512
    if model == OWL:  # the other dialect's route suppresses overlaps of what reads captions
        body = {"model_id": OWL, "image": image(photo), "text": NAMES, "confidence": 0.05, "max_detections": 20}
        others = answer(http, "/owlv2/infer", body)["predictions"]
        assert sorted((one["label"], round(one["score"], 5)) for one in found) == sorted(
            (one["class"], round(one["confidence"], 5)) for one in others
        )


def test_classes_are_the_softmax_of_the_cosines(http, photo):
    found = answer(http, f"/models/{TOWERS}", asked(photo, candidate_labels=NAMES, hypothesis_template="{}"))
    body = {"clip_version_id": "RN50", "subject": image(photo), "prompt": NAMES}
    logits = 100 * np.array(answer(http, "/clip/compare", body)["similarity"])
    wanted = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    scores = {one["label"]: one["score"] for one in found}
    assert [scores[name] for name in NAMES] == pytest.approx(wanted.tolist(), abs=1e-3)
    assert np.ptp(wanted) > 0.05, "the towers do not tell the texts apart"


def test_features_are_the_embeddings(http, photo):
    raw = http.post(f"/models/{TOWERS}", content=photo).json()
    body = {"clip_version_id": "RN50", "image": image(photo)}
    assert np.array(raw) == pytest.approx(np.array(answer(http, "/clip/embed_image", body)["embeddings"]), abs=2e-5)
    texts = answer(http, f"/models/{TOWERS}", {"inputs": NAMES})
    wanted = answer(http, "/clip/embed_text", {"clip_version_id": "RN50", "text": NAMES})["embeddings"]
    assert np.array(texts) == pytest.approx(np.array(wanted), abs=2e-5) and np.shape(texts) == (3, 1024)
    refused = http.post(f"/models/{TOWERS}", json={"inputs": "word " * 100})
    assert refused.status_code == 400 and "75 tokens" in refused.json()["error"]


def test_a_line_is_read_as_by_the_other_dialect(http):
    stream = io.BytesIO()
    Image.fromarray(text_pages.line("Total 4.20")).save(stream, "PNG")
    line = stream.getvalue()
    (found,) = http.post(f"/models/{LINE}", content=line).json()
    wanted = answer(http, "/ocr/trocr", {"model_id": LINE, "image": image(line)})["result"]
    assert found == {"generated_text": wanted}
    (short,) = answer(http, f"/models/{LINE}", asked(line, max_new_tokens=3))
    assert wanted.startswith(short["generated_text"]) and len(short["generated_text"]) < len(wanted)


def test_a_question_is_answered_as_by_the_other_dialect(http, photo):
    body = {"model_id": WRITER, "image": image(photo), "prompt": "What is this?", "max_new_tokens": 24}
    wanted = answer(http, "/infer/lmm", body)["response"]
    (found,) = answer(http, f"/models/{WRITER}", {**asked(photo, max_new_tokens=24), "question": "What is this?"})
    assert found == {"answer": wanted, "score": 1.0} and wanted
    (described,) = answer(http, f"/models/{WRITER}", asked(photo, max_new_tokens=24, prompt="What is this?"))
    assert described == {"generated_text": wanted}


def test_a_model_without_the_task_is_refused_and_one_without_any_is_a_501(http, photo):
    refused = http.post(f"/pipeline/image-to-text/{TOWERS}", json=asked(photo))
    assert refused.status_code == 400 and "image-to-text" in refused.json()["error"]
    refused = http.post("/models/l2cs-gaze", content=photo)
    assert refused.status_code == 501 and isinstance(refused.json()["error"], str)
