"""A model of random weights still answers valid JSON: SmolVLM with every part at a reduced size, to ten schemas."""

import json

import jsonschema_rs
import pytest
from answer_schemas import SCHEMAS

from tritonvision.ensembles.published import open_published
from tritonvision.publication import Repository

MODEL = "tests/small-vlm/1"


@pytest.fixture(scope="module")
def answer(served_repository):
    """``answer(text, **settings)``: the whole answer of the model in this process."""
    local = open_published(served_repository, Repository(served_repository).resolve(MODEL))[""]

    def ask(text, **given):
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        return local({"messages": [message], "pictures": []}, {"max_new_tokens": 200, **given})

    yield ask
    local.close()


@pytest.mark.parametrize("answers", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_every_answer_to_ten_schemas_is_valid(answer, answers):
    schemas, texts = [*SCHEMAS.values()], set()
    for number in range(answers):
        schema = schemas[number % len(schemas)]
        found = answer(f"Number {number % 7}?", schema=schema, temperature=float(number % 3 > 0), seed=number)
        assert found["finish_reason"][0] == "stop"
        assert jsonschema_rs.is_valid(schema, json.loads(found["text"][0])), (schema, found["text"][0])
        texts.add(found["text"][0])
    assert len(texts) > min(answers, 100) / 4, "always the same answers prove nothing"


def test_the_same_seed_gives_the_same_json_and_a_schema_changes_nothing_without_one(answer):
    given = {"schema": SCHEMAS["boxes"], "temperature": 1.0, "seed": 5}
    assert answer("What?", **given)["text"][0] == answer("What?", **given)["text"][0]
    first, _, again = (answer("What?", max_new_tokens=9, **more) for more in ({}, given, {}))
    assert first["token_ids"].tolist() == again["token_ids"].tolist()
