"""``/clip/*``: vectors of pictures and of texts, and the cosine between them."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tritonvision.publication import MANIFEST, Manifest
from tritonvision.vectors import cosines

IMAGES, TEXT, COMPARE = "/clip/embed_image", "/clip/embed_text", "/clip/compare"


def vector_of(data: bytes) -> np.ndarray:
    """A float32 ``[1,4]`` that depends on the bytes."""
    return np.random.default_rng(list(data[-64:])).normal(size=(1, 4)).astype(np.float32)


def png(size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, "PNG")
    return stream.getvalue()


def reference(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def cosine(a: bytes, b: bytes) -> float:
    one, other = vector_of(a)[0].astype(np.float64), vector_of(b)[0].astype(np.float64)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.fixture
def clip(house, monkeypatch):
    """The facade with two published CLIP models; ``clip.texts`` are the texts of the requests, with their model."""
    for model in ("clip/ViT-B-16", "clip/RN50"):
        manifest = Manifest(
            id=model, family="CLIP", task="embedding", head="embeddings", weights="random", source="seed 0",
            sha256="0", license="MIT", precision="fp32", labels=(), input_size=(224, 224), steps=(),
            roles=("", "text"),
        )  # fmt: skip
        folder = house.engine.repository.root / manifest.triton_name
        folder.mkdir()
        (folder / MANIFEST).write_text(manifest.to_json())
    house.texts = []

    async def ask(model, samples, parameters, *, role="", **_):
        assert role == "text"
        house.texts += [(model.id, sample["text"]) for sample in samples]
        return model, [vector_of(sample["text"]) for sample in samples]

    monkeypatch.setattr(house.engine, "ask", ask, raising=False)
    monkeypatch.setattr(house.engine, "_result", lambda manifest, picture, settings: vector_of(picture))
    return house


def ask(house, route: str, **body) -> dict:
    answer = house.client.post(route, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(house, route: str, **body) -> tuple[int, str]:
    answer = house.client.post(route, json=body)
    return answer.status_code, answer.json().get("message", "")


def test_a_picture_gives_one_row_as_the_network_gave_it(clip, picture):
    answer = ask(clip, IMAGES, image=reference(picture))
    assert np.array_equal(np.array(answer["embeddings"], np.float32), vector_of(picture))
    assert answer["time"] > 0
    # the client reads these keys
    assert answer["frame_id"] is answer["inference_id"] is answer["parent_id"] is None


def test_several_pictures_give_a_row_each_in_order(clip, picture):
    others = [picture, png((20, 10)), png((9, 9))]
    rows = ask(clip, IMAGES, image=[reference(p) for p in others])["embeddings"]
    assert np.array_equal(np.array(rows, np.float32), np.concatenate([vector_of(p) for p in others]))


def test_errors_about_pictures_and_about_texts_name_the_right_one(clip):
    answer = clip.client.post("/clip/embed_image", json={"image": []})
    assert answer.status_code == 400 and answer.json()["message"].endswith("There is no picture in the request.")
    answer = clip.client.post("/clip/embed_text", json={"text": []})
    assert answer.status_code == 400 and "texts" in answer.json()["message"]


def test_a_text_and_a_list_of_texts_give_a_row_each(clip):
    assert len(ask(clip, TEXT, text="a cat")["embeddings"]) == 1
    texts = ["a cat", "", "naïve 猫 &amp; 🐈", *(f"text {i}" for i in range(40))]
    answer = ask(clip, TEXT, text=texts)
    assert np.array_equal(
        np.array(answer["embeddings"], np.float32), np.concatenate([vector_of(t.encode()) for t in texts])
    )
    assert set(answer) == {"embeddings", "time", "frame_id", "inference_id", "parent_id"}


def test_the_version_names_the_model_unless_model_id_does(clip):
    ask(clip, TEXT, text="x")
    ask(clip, TEXT, text="x", clip_version_id="RN50")
    ask(clip, TEXT, text="x", clip_version_id="ViT-B-16", model_id="clip/RN50")
    assert [name for name, _ in clip.texts] == ["clip/ViT-B-16", "clip/RN50", "clip/RN50"]
    assert refusal(clip, TEXT, text="x", clip_version_id="RN1000")[0] == 404
    assert refusal(clip, TEXT, text="x", model_id="resnet18")[0] == 400


def test_a_picture_is_compared_with_texts_in_their_order(clip, picture):
    answer = ask(clip, COMPARE, subject=reference(picture), prompt=["cat", "dog", "cat"])
    want = [cosine(picture, text) for text in (b"cat", b"dog", b"cat")]
    assert answer["similarity"] == pytest.approx(want, abs=1e-6)
    assert answer["parent_id"] is None and answer["time"] > 0
    single = ask(clip, COMPARE, subject=reference(picture), prompt="dog", subject_type="image", prompt_type="text")
    assert single["similarity"] == pytest.approx(want[1:2], abs=1e-6)


def test_prompts_with_names_give_similarities_with_names(clip, picture):
    named = {"good": "a photo", "bad": "noise"}
    answer = ask(clip, COMPARE, subject="a photo", subject_type="text", prompt=named)
    assert answer["similarity"] == {"good": pytest.approx(1), "bad": pytest.approx(cosine(b"a photo", b"noise"))}
    pictures = {"same": reference(picture)}
    answer = ask(clip, COMPARE, subject=reference(picture), prompt=pictures, prompt_type="image")
    assert answer["similarity"] == {"same": pytest.approx(1)}


def test_texts_may_be_objects_with_type_and_value(clip):
    answer = ask(clip, COMPARE, subject="x", subject_type="text", prompt={"type": "x", "value": "y"})
    assert set(answer["similarity"]) == {"type", "value"}


def test_a_picture_or_pictures_may_be_the_prompt(clip, picture):
    for prompt in (reference(picture), [reference(picture)]):
        answer = ask(clip, COMPARE, subject="cat", subject_type="text", prompt=prompt, prompt_type="image")
        assert answer["similarity"] == pytest.approx([cosine(b"cat", picture)], abs=1e-6)


def test_eight_prompts_of_the_subjects_kind_are_allowed(clip, picture):
    answer = ask(clip, COMPARE, subject=reference(picture), prompt=[reference(picture)] * 8, prompt_type="image")
    assert answer["similarity"] == pytest.approx([1] * 8)


@pytest.mark.parametrize("count", [0, 9])
def test_no_prompts_and_more_than_eight_are_refused(clip, picture, count):
    status, message = refusal(clip, COMPARE, subject=reference(picture), prompt=["x"] * count)
    assert (status, message) == (400, f"A request compares with 1 to 8 prompts, not {count}.")
    named = {str(i): "x" for i in range(count)}
    assert refusal(clip, COMPARE, subject=reference(picture), prompt=named)[0] == 400


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "a text"}, {"subject": 5}, {"subject": ["x"]}, {"subject_type": "text"}, {"subject_type": "video"},
        {"prompt": 5}, {"prompt": [["x"]]}, {"prompt": {"a": None}}, {"prompt_type": "image"}, {"prompt_type": "sound"},
    ],
)  # fmt: skip
def test_a_value_that_does_not_match_its_type_is_refused(clip, picture, change):
    body = {"subject": reference(picture), "prompt": "x", **change}
    status, message = refusal(clip, COMPARE, **body)
    assert status == 400 and ("'subject" in message or "'prompt" in message)


def test_no_text_and_too_many_are_refused(clip):
    assert refusal(clip, TEXT, text=[]) == (400, "One request may hold 1 to 512 texts, not 0.")
    assert refusal(clip, TEXT, text=["x"] * 10_000) == (400, "'text' may hold 512 entries, not 10000.")
    assert clip.texts == []


def test_no_picture_and_more_than_eight_are_refused(clip, picture):
    assert refusal(clip, IMAGES, image=[])[0] == 400
    assert refusal(clip, IMAGES, image=[reference(picture)] * 9) == (400, "One request may hold 8 pictures, not 9.")
    status, message = refusal(clip, IMAGES, image=reference(b"no picture"))
    assert status == 400 and message.startswith("Could not load input image. Cause:")


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (IMAGES, {}), (IMAGES, {"image": "x"}), (TEXT, {}), (TEXT, {"text": 5}), (TEXT, {"text": ["x", 5]}),
        (COMPARE, {}), (COMPARE, {"subject": "x"}), (COMPARE, {"prompt": "x"}),
    ],
)  # fmt: skip
def test_a_body_without_its_field_is_refused(clip, route, body):
    answer = clip.client.post(route, json=body)
    assert answer.status_code == 422 and answer.json()["detail"]


def test_a_lone_surrogate_is_refused(clip):
    answer = clip.client.post(TEXT, content=json.dumps({"text": "\ud800"}))
    assert answer.status_code == 422


finite = st.floats(-1e6, 1e6, width=32)


@given(arrays.arrays(np.float32, 5, elements=finite), arrays.arrays(np.float32, (3, 5), elements=finite))
def test_cosines_lie_between_minus_one_and_one_and_do_not_depend_on_length(one, others):
    found = cosines(one, others)
    assert found.shape == (3,) and (np.abs(found) <= 1).all()
    assert np.allclose(found, cosines(one.astype(np.float64) * 7, others.astype(np.float64) * 3))
    assert not found[~others.any(axis=1)].any()
