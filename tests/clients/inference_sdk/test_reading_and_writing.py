"""The unmodified client's calls for text: pages, lines and what models write; and for what no family answers yet.

No version is named where the client has none by default: the server takes what it has of the family.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from inference_sdk import InferenceHTTPClient
from inference_sdk.http.errors import HTTPCallErrorError

PHOTO = str(Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png")
WRITER = "tests/small-vlm/1"


@pytest.fixture
def client(server_url: str) -> InferenceHTTPClient:
    return InferenceHTTPClient(api_url=server_url, api_key="any")


def test_a_page(client):
    answer = client.ocr_image(PHOTO, model="doctr")
    assert isinstance(answer["result"], str) and answer["parent_id"] is None and answer["time"] > 0
    with_boxes = client.ocr_image(PHOTO, model="doctr", generate_bounding_boxes=True)
    assert with_boxes["image"] == {"width": 512, "height": 512}
    assert {found["class"] for found in with_boxes["predictions"]} <= {"block", "line", "word"}


def test_pages_one_by_one(client):
    assert [isinstance(one["result"], str) for one in client.ocr_image([PHOTO, PHOTO], model="doctr")] == [True, True]


def test_a_line(client):
    assert isinstance(client.ocr_image(PHOTO, model="trocr")["result"], str)


def test_boxes_of_names(client):
    (answer,) = client.infer_from_yolo_world(PHOTO, class_names=["a cat", "a helmet"], confidence=0.05)
    assert answer["image"] == {"width": 512, "height": 512} and answer["predictions"]
    assert {found["class"] for found in answer["predictions"]} <= {"a cat", "a helmet"}


@pytest.mark.parametrize("in_path", [False, True])
def test_what_a_model_writes(client, in_path):
    answer = client.infer_lmm(
        PHOTO, model_id=WRITER, prompt="What is this?", max_new_tokens=4, enable_thinking=False,
        model_id_in_path=in_path,
    )  # fmt: skip
    assert isinstance(answer["response"], str) and answer["image"] == {"width": 512, "height": 512}


def test_a_reader_of_regions_that_nobody_knows_is_a_404_that_names_it(client):
    with pytest.raises(HTTPCallErrorError) as caught:
        client.ocr_image(PHOTO, model="easy_ocr", version="klingon_g2")
    assert caught.value.status_code == 404 and "easy_ocr/klingon_g2" in caught.value.api_message
