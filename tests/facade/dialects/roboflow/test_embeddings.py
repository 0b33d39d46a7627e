"""``/infer/embeddings``: a vector of each picture, by classifiers and embedders; ``/perception_encoder/*``."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from answers import vector_of
from manifests import CLASSIFIER, DETECTOR, MANY_LABELS, TOWERS

ROUTE, ENCODER = "/infer/embeddings", "perception-encoder/PE-Core-B16-224"


def image(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def ask(house, route: str = ROUTE, **body) -> dict:
    answer = house.client.post(route, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(house, route: str = ROUTE, **body) -> tuple[int, str]:
    answer = house.client.post(route, json=body)
    return answer.status_code, answer.json().get("message", "")


@pytest.mark.parametrize("model", [CLASSIFIER, TOWERS])
def test_every_classifier_and_embedder_gives_a_row_a_picture(whole_house, picture, model):
    answer = ask(whole_house, model_id=model, image=[image(picture)] * 2, id="mine")
    assert np.array(answer["embeddings"], np.float32) == pytest.approx(np.concatenate([vector_of(picture)] * 2))
    told = answer["embedding_info"]
    assert (told["model_id"], told["output_type"], told["dimension"]) == (model, "feature_vector", 4)
    assert (told["normalization"], told["precision"], len(told["space_id"])) == ("none", "fp32", 64)
    assert answer["inference_id"] == "mine" and answer["time"] > 0


def test_logits_are_what_the_activation_reads_and_another_space(whole_house, picture):
    body = {"model_id": CLASSIFIER, "image": image(picture)}
    features, logits = ask(whole_house, **body), ask(whole_house, **body, output_type="logits")
    assert np.shape(logits["embeddings"]) == (1, 3) and logits["embedding_info"]["output_type"] == "logits"
    assert whole_house.engine.asked[-1][2]["function"] == "none"
    assert features["embedding_info"]["space_id"] != logits["embedding_info"]["space_id"]
    many = ask(whole_house, model_id=MANY_LABELS, image=image(picture), output_type="logits")
    assert np.shape(many["embeddings"]) == (1, 2)


def test_what_has_no_vector_is_refused_with_the_reason(whole_house, picture):
    for model, status, told in (
        (DETECTOR, 400, "does object-detection"), (f"{DETECTOR}x", 404, "No model"),
    ):  # fmt: skip
        found, sentence = refusal(whole_house, model_id=model, image=image(picture))
        assert found == status and told in sentence
    assert refusal(whole_house, model_id=TOWERS, image=image(picture), output_type="logits")[0] == 501
    assert refusal(whole_house, model_id=CLASSIFIER, image=image(picture), output_type="scores")[0] in (400, 422)
    assert refusal(whole_house, model_id=CLASSIFIER, image=image(b"no picture"))[0] == 400
    assert refusal(whole_house, model_id=CLASSIFIER, image=[])[0] == 400


def test_perception_encoder_answers_as_clip_does_with_eight_texts_at_most(whole_house, picture):
    version = {"perception_encoder_version_id": "PE-Core-B16-224"}
    for body in (version, {"perception_encoder_version_id": ENCODER}, {"model_id": ENCODER}, {}):
        rows = ask(whole_house, "/perception_encoder/embed_image", image=image(picture), **body)["embeddings"]
        assert np.array(rows, np.float32) == pytest.approx(vector_of(picture))
    texts = ask(whole_house, "/perception_encoder/embed_text", text=["a"] * 8, **version)["embeddings"]
    assert np.shape(texts) == (8, 4)
    assert refusal(whole_house, "/perception_encoder/embed_text", text=["a"] * 9, **version)[0] == 400
    same = {"subject": image(picture), "prompt": {"itself": image(picture)}, "prompt_type": "image"}
    found = ask(whole_house, "/perception_encoder/compare", **same, **version)["similarity"]
    assert found == {"itself": pytest.approx(1)}
