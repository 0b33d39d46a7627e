"""The unmodified client's calls for vectors, of true towers and of a classifier with random weights."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from inference_sdk import InferenceConfiguration, InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError

PHOTO = str(Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png")
VERSION = "RN50"


@pytest.fixture
def client(server_url: str) -> InferenceHTTPClient:
    return InferenceHTTPClient(api_url=server_url, api_key="any")


def test_embeddings_of_a_picture(client):
    answer = client.get_clip_image_embeddings(PHOTO, clip_version=VERSION)
    assert np.shape(answer["embeddings"]) == (1, 1024)
    assert answer["time"] > 0 and answer["frame_id"] is None


def test_embeddings_of_pictures_that_go_as_one_request(client):
    client.configure(InferenceConfiguration(max_batch_size=3))
    mirrored = cv2.imread(PHOTO)[:, ::-1].copy()
    answers = client.get_clip_image_embeddings([PHOTO, mirrored, PHOTO], clip_version=VERSION)
    rows = np.concatenate([answer["embeddings"] for answer in (answers if isinstance(answers, list) else [answers])])
    assert rows.shape == (3, 1024)
    assert np.array_equal(rows[0], rows[2]) and not np.array_equal(rows[0], rows[1])


def test_embeddings_of_texts(client):
    assert np.shape(client.get_clip_text_embeddings("a cat", clip_version=VERSION)["embeddings"]) == (1, 1024)
    answer = client.get_clip_text_embeddings(["a cat", "a dog", "a cat"], clip_version=VERSION)
    first, second, third = np.array(answer["embeddings"])
    assert np.array_equal(first, third) or np.allclose(first, third, atol=1e-5)
    assert not np.allclose(first, second, atol=1e-3)


def test_a_picture_compared_with_texts_and_with_a_picture(client):
    found = client.clip_compare(PHOTO, ["a cat", "a dog"], clip_version=VERSION)["similarity"]
    assert len(found) == 2 and all(-1 <= value <= 1 for value in found)
    same = client.clip_compare(PHOTO, PHOTO, prompt_type="image", clip_version=VERSION)["similarity"]
    assert same == pytest.approx([1], abs=1e-6)
    same = client.clip_compare("a cat", "a cat", subject_type="text", clip_version=VERSION)["similarity"]
    assert same == pytest.approx([1], abs=1e-6)


def test_a_text_that_is_too_long_says_so(client):
    with pytest.raises(HTTPCallErrorError) as caught:
        client.get_clip_text_embeddings("word " * 100, clip_version=VERSION)
    assert caught.value.status_code == 400 and "longer than 75 tokens" in caught.value.api_message


@pytest.mark.parametrize(("output_type", "length"), [("feature_vector", 512), ("logits", 1000)])
def test_features_and_logits_of_a_classifier(client, output_type, length):
    mirrored = cv2.imread(PHOTO)[:, ::-1].copy()
    one, other = client.get_image_embeddings([PHOTO, mirrored], model_id="resnet18", output_type=output_type)
    assert np.shape(one["embeddings"]) == (1, length) and one["embeddings"] != other["embeddings"]
    told = one["embedding_info"]
    assert (told["model_id"], told["output_type"], told["dimension"]) == ("resnet18", output_type, length)
    assert told == other["embedding_info"] and len(told["space_id"]) == 64


def test_features_of_towers_are_their_vectors(client):
    found = client.get_image_embeddings(PHOTO, model_id="clip/RN50")["embeddings"]
    vectors = client.get_clip_image_embeddings(PHOTO, clip_version=VERSION)["embeddings"]
    assert np.array(found) == pytest.approx(np.array(vectors), abs=1e-6)
