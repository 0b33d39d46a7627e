"""Texts on the whole running server: the towers answer, and bad texts are the caller's 4xx."""

from __future__ import annotations

import base64

import httpx
import numpy as np
import pytest

MODEL = {"clip_version_id": "RN50"}


@pytest.fixture(scope="module")
def http(server_url: str):
    with httpx.Client(base_url=server_url, timeout=60) as client:
        client.post("/model/add", json={"model_id": "clip/RN50"}).raise_for_status()
        yield client


def texts(http: httpx.Client, text) -> httpx.Response:
    return http.post("/clip/embed_text", json={**MODEL, "text": text})


def rows(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["embeddings"], np.float32)


def test_a_text_has_the_same_vector_alone_and_among_others(http):
    alone = rows(texts(http, "a photo of an astronaut"))
    among = rows(texts(http, [*(f"text {i}" for i in range(11)), "a photo of an astronaut"]))
    assert alone.shape == (1, 1024) and among.shape == (12, 1024)
    assert np.abs(among[-1] - alone[0]).max() <= 2e-5
    assert np.abs(among[0] - alone[0]).max() >= 0.02


def test_an_empty_text_and_any_script_have_vectors(http):
    found = rows(texts(http, ["", "“don’t” &amp; 猫 🐈", "<end_of_text>"]))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("text", ["word " * 100, "x" * 20_000, ["fine", "word " * 100]])
def test_a_text_that_is_too_long_is_refused_and_the_next_is_answered(http, text):
    answer = texts(http, text)
    assert answer.status_code == 400 and "longer than 75 tokens" in answer.json()["message"]
    assert rows(texts(http, "fine")).shape == (1, 1024)


def test_no_text_and_ten_thousand_are_refused(http):
    assert texts(http, []).status_code == 400
    assert texts(http, ["x"] * 10_000).status_code == 400


def test_a_picture_is_like_itself_and_has_a_cosine_with_each_text(http, photo):
    picture = {"type": "base64", "value": base64.b64encode(photo).decode()}
    body = {**MODEL, "subject": picture, "prompt": {"itself": picture}, "prompt_type": "image"}
    assert http.post("/clip/compare", json=body).json()["similarity"] == {"itself": pytest.approx(1, abs=1e-6)}
    found = http.post("/clip/compare", json={**MODEL, "subject": picture, "prompt": ["a", "b"]}).json()["similarity"]
    assert len(found) == 2 and all(-1 <= value <= 1 for value in found)
