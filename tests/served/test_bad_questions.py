"""Bad questions to a model that writes, over HTTP: the dialect's own 4xx in a sentence, and the next is answered."""

from __future__ import annotations

import base64
import io
import time

import httpx
import pytest
from PIL import Image

MODEL = "tests/small-vlm/1"


@pytest.fixture(scope="module")
def http(server_url):
    with httpx.Client(base_url=server_url, timeout=120) as client:
        yield client


def picture(width=9, height=6):
    stream = io.BytesIO()
    Image.new("L", (width, height), 90).save(stream, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def ask(http, *content, **more):
    body = {"model": MODEL, "messages": [{"role": "user", "content": list(content)}], "max_tokens": 4}
    return http.post("/v1/chat/completions", json=body | more)


def by_schema(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}


def nested(levels):
    schema = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


TEXT = {"type": "text", "text": "What is this?"}
BAD = {
    "a hundred pictures": ([*[picture()] * 100, TEXT], {}, "32 pictures"),
    "pictures of 105 million pixels together": ([*[picture(7000, 5000)] * 3, TEXT], {}, "million pixels together"),
    "no content": ([], {}, "empty"),
    "an empty text": ([{"type": "text", "text": ""}], {}, "empty"),
    "a prompt over the context": ([{"type": "text", "text": "word " * 9000}], {}, "tokens long"),
    "a stop text of a megabyte": ([TEXT], {"stop": "a" * 1_000_000}, "stop"),
    "a thousand stop texts": ([TEXT], {"stop": ["a"] * 1000}, "stop"),
    "tokens without an end": ([TEXT], {"max_tokens": 1e308}, "max_tokens"),
    "tokens of thirty digits": ([TEXT], {"max_tokens": 10**30}, "max_tokens"),
    "less than no token": ([TEXT], {"max_tokens": -1}, "max_tokens"),
    "a schema that is none": ([TEXT], by_schema({"type": "banana"}), "banana"),
    "a schema without a bottom": ([TEXT], by_schema(nested(900)), "levels"),
    "a schema of a megabyte": ([TEXT], by_schema({"enum": ["a" * 1_000_000]}), "bytes"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_question_is_refused_in_a_sentence_and_the_next_is_answered(http, what):
    content, more, says = BAD[what]
    assert ask(http, TEXT).status_code == 200, "the model is loaded"
    began = time.monotonic()
    refused = ask(http, *content, **more)
    assert time.monotonic() - began < 60, "long before its deadline"
    error = refused.json()["error"]
    assert refused.status_code in (400, 413) and says in error["message"], (refused.status_code, error)
    assert len(error["message"]) < 400 and "Traceback" not in error["message"]
    assert ask(http, TEXT).status_code == 200


def test_a_schema_that_explodes_is_refused_or_followed_and_holds_nobody_up(http):
    assert ask(http, TEXT).status_code == 200, "the model is loaded"
    began = time.monotonic()
    answer = ask(http, TEXT, **by_schema({"type": "string", "pattern": "(a{1000}){1000}"}))
    assert answer.status_code in (200, 400) and time.monotonic() - began < 60
    assert ask(http, TEXT).status_code == 200
