"""``/v1/embeddings``: vectors of length 1, of texts and of pictures, in the order that was asked."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from chat_requests import data_url, image

from tritonvision.publication import MANIFEST, Manifest

MODEL, URL = "clip/ViT-B-16", "/v1/embeddings"


def vector_of(data: bytes) -> np.ndarray:
    """A float32 ``[1,4]`` that depends on the bytes."""
    return np.random.default_rng(list(data[-64:])).normal(size=(1, 4)).astype(np.float32)


def unit(data: bytes) -> list[float]:
    row = vector_of(data)[0].astype(np.float64)
    return (row / np.linalg.norm(row)).tolist()


@pytest.fixture
def towers(house, monkeypatch):
    """The facade with a published model of two towers."""
    manifest = Manifest(
        id=MODEL, family="CLIP", task="embedding", head="embeddings", weights="random", source="seed 0", sha256="0",
        license="MIT", precision="fp32", labels=(), input_size=(224, 224), steps=(), roles=("", "text"),
    )  # fmt: skip
    folder = house.engine.repository.root / manifest.triton_name
    folder.mkdir()
    (folder / MANIFEST).write_text(manifest.to_json())

    async def ask(model, samples, parameters, *, role="", **_):
        assert role == "text"
        return model, [vector_of(sample["text"]) for sample in samples]

    async def infer(model, pictures, parameters, **_):
        return model, [vector_of(picture) for picture in pictures]

    monkeypatch.setattr(house.engine, "ask", ask)
    monkeypatch.setattr(house.engine, "infer", infer)
    return house


def ask(house, given, **more):
    answer = house.client.post(URL, json={"model": MODEL, "input": given, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_texts_and_pictures_come_back_in_order_with_length_one(towers, picture):
    answer = ask(towers, ["a cat", image(data_url(picture)), {"type": "text", "text": "a dog"}])
    assert answer["object"] == "list" and answer["model"] == MODEL
    assert [(one["object"], one["index"]) for one in answer["data"]] == [("embedding", i) for i in range(3)]
    wanted = [unit(b"a cat"), unit(picture), unit(b"a dog")]
    np.testing.assert_allclose([one["embedding"] for one in answer["data"]], wanted, atol=1e-6)
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}
    (one,) = ask(towers, "a cat")["data"]
    np.testing.assert_allclose(one["embedding"], wanted[0], atol=1e-6)


def test_base64_is_the_same_numbers_as_float32(towers):
    plain, packed = ask(towers, "a cat"), ask(towers, "a cat", encoding_format="base64", dimensions=4)
    found = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(found, np.float32(plain["data"][0]["embedding"]))


@pytest.mark.parametrize("body", [
    {"input": []}, {"input": [""]}, {"input": [1, 2, 3]}, {"input": [[1, 2]]}, {"input": None}, {"input": 5},
    {"input": ["x"] * 10_000}, {"input": "a", "encoding_format": "int8"}, {"input": "a", "dimensions": 3},
    {"input": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}, {"input": [{"type": "image_url"}]},
    {"input": "a", "model": "resnet18"},
])  # fmt: skip
def test_what_cannot_be_embedded_is_refused_in_openais_form(towers, body):
    answer = towers.client.post(URL, json={"model": MODEL, **body})
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["type"] == "invalid_request_error" and error["message"]


@pytest.mark.parametrize(("entry", "why"), [(" ", "is an empty text"), (7, "is no text")])
def test_an_entry_that_is_refused_is_called_what_it_is(towers, entry, why):
    answer = towers.client.post(URL, json={"model": MODEL, "input": ["a", entry]})
    assert answer.json()["error"]["message"].startswith(f"An entry of 'input' {why}.")


def test_an_unknown_model_is_not_found(towers):
    answer = towers.client.post(URL, json={"model": "nobody/1", "input": "a"})
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "model_not_found"
