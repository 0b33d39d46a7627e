"""What ``/openapi.json`` tells, held against the running server: its examples, and made-up data at every route."""

from __future__ import annotations

import json
import time

import httpx
import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

# Names of the examples, as the test models are called that do the same.
OURS = {"smolvlm-256m": "tests/small-vlm/1", "clip/ViT-B-32": "clip/RN50"}
HUGGING_FACE = {
    "a picture": "yolov8n-640", "with parameters": "yolov8n-640", "a text": "clip/RN50",
    "candidate labels": "clip/RN50", "a question": "tests/small-vlm/1",
    "instances": "yolov8n-seg-640", "every object": "sam-vit_b",
}  # fmt: skip
# What would unload the models of other tests.
LEFT_ALONE = {"/model/clear", "/clear_cache", "/model/remove"}
# EasyOCR is no test model: its detector has one size, whose gate takes a minute.
NOT_HERE = {"/easy_ocr/ocr"}
CONFORMANCE = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]


@pytest.fixture(scope="module")
def told(server_url: str) -> dict:
    text = httpx.get(f"{server_url}/openapi.json").text
    for name, ours in OURS.items():
        text = text.replace(f'"{name}"', f'"{ours}"')
    return json.loads(text)


def examples(told: dict):
    """The first body of every route, all of the Hugging Face ones, which name no task."""
    for path, methods in told["paths"].items():
        body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        bodies = [(path, name, example["value"]) for name, example in body.get("examples", {}).items()]
        yield from bodies if path == "/models/{model}" else bodies[:1]


def patiently(http: httpx.Client, path: str, body: dict) -> httpx.Response:
    """The answer, once the model is loaded."""
    while (answer := http.post(path, json=body)).status_code == 503:
        time.sleep(float(answer.headers["retry-after"]))
    return answer


def test_the_examples_are_answered_as_documented_by_published_models(server_url, told):
    asked = 0
    with httpx.Client(base_url=server_url, timeout=120, headers={"x-wait-for-model": "true"}) as http:
        for path, name, body in examples(told):
            if path in LEFT_ALONE | NOT_HERE or "{task}" in path:
                continue
            model = body.get("model") or body.get("model_id") or HUGGING_FACE.get(name, "")
            answer = patiently(http, path.replace("{model}", model).replace("{model_id}", model), body)
            assert answer.status_code == 200, f"{path}, {name}: {answer.text[:300]}"
            content = told["paths"][path]["post"]["responses"]["200"]["content"]
            kind = answer.headers["content-type"].partition(";")[0]
            if kind == "application/json":
                schema = content[kind]["schema"] | {"components": told["components"]}
                jsonschema_rs.validator_for(schema).validate(answer.json())
            asked += kind in content
    assert asked > 20


@pytest.mark.slow  # tests/facade/test_openapi.py generates more, over an engine in memory
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.name)
def test_no_generated_request_gets_an_undocumented_answer(server_url, told, mode):
    for found in schemathesis.openapi.from_dict(told).get_all_operations():
        operation = found.ok()
        if operation.path in LEFT_ALONE or mode == GenerationMode.NEGATIVE and not operation.body:
            continue

        @settings(
            max_examples=2, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: schemathesis.Case) -> None:
            answer = case.call(base_url=server_url, timeout=60)
            assert answer.status_code < 500 or answer.status_code in (501, 503), answer.text
            case.validate_response(answer, checks=CONFORMANCE)

        call()
