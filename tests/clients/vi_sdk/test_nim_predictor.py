"""The published package ``vi-sdk``, unmodified: its NIM predictor asks our server, and its own types read the answers.

Nothing here imports the server's packages: it runs in a process of its own. The model's weights are random, so what is
said means nothing; that it is said in the package's own schemas is what is tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import GeneratorType
from urllib.parse import urlsplit

import openai
import pytest
from vi.deployment.nim import NIMPredictor, NIMSamplingParams
from vi.inference.task_types import GenericResponse
from vi.inference.task_types.phrase_grounding import PhraseGroundingResponse
from vi.inference.task_types.vqa import VQAResponse

MODEL = "tests/small-vlm/1"
PHOTO = str(Path(__file__).parents[3] / "tritonvision" / "data" / "astronaut.png")


def of(**properties) -> dict:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def several(items: dict, least: int, most: int) -> dict:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


TEXT = {"type": "string", "minLength": 1, "maxLength": 20}
BOX = several({"type": "integer", "minimum": 0, "maximum": 1024}, 4, 4)
PHRASE = of(phrase=TEXT, grounding=several(BOX, 1, 2))
BOUNDED = of(phrase_grounding=of(sentence=TEXT, groundings=several(PHRASE, 1, 2)))


@pytest.fixture(scope="module")
def predictor(server_url):
    """``predictor(task)`` of the package, told nothing but the port: it asks 0.0.0.0 by itself."""

    def make(task: str, model: str = MODEL) -> NIMPredictor:
        return NIMPredictor(task_type=task, model_name=model, port=urlsplit(server_url).port)

    return make


def finished(said, pieces: list[str] | None = None):
    """The result: the package's call is a generator even where it does not stream. Pieces of a stream are kept."""
    assert isinstance(said, GeneratorType)
    while True:
        try:
            piece = next(said)
        except StopIteration as end:
            return end.value
        assert pieces is not None, "it is not streamed"
        pieces.append(piece)


def test_an_answer_to_a_question_is_read_by_the_package(predictor):
    found = finished(predictor("vqa")(PHOTO, "What is this?"))
    assert isinstance(found, VQAResponse) and found.prompt == "What is this?" and found.result.answer


def test_phrases_and_boxes_are_read_by_the_package(predictor):
    """The package's schema has no bounds, and random weights would write until the limit of tokens cuts them."""
    found = finished(predictor("phrase-grounding")(PHOTO, sampling_params=NIMSamplingParams(guided_json=BOUNDED)))
    assert isinstance(found, PhraseGroundingResponse) and found.result.sentence
    for one in found.result.groundings:
        assert one.phrase and all(0 <= value <= 1024 for box in one.grounding for value in box)


def test_free_text_is_read_by_the_package(predictor):
    found = finished(predictor("freeform")(PHOTO, sampling_params=NIMSamplingParams(top_k=5, seed=3)))
    assert isinstance(found, GenericResponse) and found.result.startswith('{"freeform"')


def test_it_streams_pieces_of_the_same_answer(predictor):
    pieces: list[str] = []
    found = finished(predictor("vqa")(PHOTO, "What is this?", stream=True), pieces)
    assert len(pieces) > 3 and json.loads("".join(pieces))["vqa"]["answer"] == found.result.answer
    assert found == finished(predictor("vqa")(PHOTO, "What is this?"))


def test_a_model_that_is_not_there_is_its_client_s_error(predictor):
    with pytest.raises(openai.NotFoundError, match="nobody"):
        finished(predictor("vqa", "nobody/1")(PHOTO, "What is this?"))
