"""``/openapi.json`` describes the routes: it is valid, its examples work, and a fuzzer finds no other answers."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from fastapi.routing import iter_route_contexts
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from tritonvision.facade.dialects.registry import RESERVED
from tritonvision.facade.openapi import OPERATIONS

METHODS = {"GET", "POST"}
CONFORMANCE = [
    checks.status_code_conformance, checks.content_type_conformance, checks.response_headers_conformance,
    checks.response_schema_conformance,
]  # fmt: skip


@pytest.fixture
def schema(whole_house) -> dict:
    answer = whole_house.client.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def operations(schema: dict):
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def check(schema: dict, part: dict, value: object) -> None:
    """Raises when ``value`` does not fit ``part`` of ``schema``."""
    jsonschema_rs.validator_for({**part, "components": schema["components"]}).validate(value)


def test_it_is_valid_openapi(schema):
    assert schema["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(schema).validate()


def test_every_route_for_programs_is_described(whole_house, schema):
    told = {(method.upper(), path) for method, path, _ in operations(schema)}
    routes = [route for route in iter_route_contexts(whole_house.client.app.routes) if route.methods]
    listed = {(m, route.path_format) for route in routes if route.include_in_schema for m in route.methods & METHODS}
    assert listed == told
    hidden = {route.path for route in routes if not route.include_in_schema}
    assert hidden <= {"/", "/predict", "/health", "/docs", "/redoc", "/openapi.json"}, "not for programs, or forgotten"


def test_every_operation_has_a_description_its_errors_and_examples(schema):
    for method, path, operation in operations(schema):
        where = f"{method} {path}"
        assert operation["summary"] and operation["description"], where
        statuses = operation["responses"].keys()
        assert {"413", "503"} <= statuses and "500" not in statuses and "4XX" not in statuses, where
        for status, response in operation["responses"].items():
            content = response.get("content", {}).get("application/json")
            assert response["description"], where
            if status != "200":
                check(schema, content["schema"], content["example"])
            elif (method, path) in OPERATIONS and content is not None:
                check(schema, content["schema"], content["example"])
            else:
                assert response["content"], where
        if "requestBody" in operation and "200" in statuses:
            bodies = operation["requestBody"]["content"].values()
            assert any("examples" in body or "example" in body for body in bodies), where


def test_every_route_has_one_described_group_and_a_written_summary(schema, house):
    told = {group["name"] for group in schema["tags"]}
    named = {(route.name or "").replace("_", " ").title() for route in iter_route_contexts(house.client.app.routes)}
    for method, path, operation in operations(schema):
        assert len(operation["tags"]) == 1 and operation["tags"][0] in told, path
        assert operation["summary"] not in named, f"{method} {path}: {operation['summary']}"
    groups = {path: operation["tags"][0] for _, path, operation in operations(schema)}
    assert [groups[path] for path in ("/healthz", "/models", "/model/clear")] == ["Health", "Models", "Loading"]


def test_every_description_belongs_to_a_route(schema):
    assert OPERATIONS.keys() <= {(method, path) for method, path, _ in operations(schema)}


def test_errors_have_the_form_of_their_dialect(schema):
    def example(path: str, status: str) -> dict:
        return schema["paths"][path]["post"]["responses"][status]["content"]["application/json"]["example"]

    assert example("/infer/object_detection", "404").keys() == {"message"}
    assert example("/infer/object_detection", "401").keys() == {"message", "status"}
    assert example("/infer/object_detection", "422").keys() == {"detail"}
    assert example("/models/{model}", "404").keys() == {"error"}
    assert example("/models/{model}", "503").keys() == {"error", "estimated_time"}
    assert example("/v1/chat/completions", "404")["error"].keys() == {"message", "type", "param", "code"}


# ---- the examples work -----------------------------------------------------------------------------------------------

_PLACES = {
    "{model_id}": {"/infer/depth-estimation": "depth-anything-v2-small", "/infer/lmm": "smolvlm-256m"},
    "{task}": {"": "object-detection"}, "{project}": {"": "coco"}, "{version}": {"": "3"},
}  # fmt: skip
# Which model of the house each example of the Hugging Face routes is for.
_MODELS = {
    "a text": "clip/RN50", "candidate labels": "clip/RN50", "a question": "smolvlm-256m",
    "instances": "yolov8n-seg-640", "every object": "sam-vit_b",
}  # fmt: skip
_TASKS = {
    "a text": "feature-extraction", "candidate labels": "zero-shot-image-classification",
    "a question": "visual-question-answering", "instances": "image-segmentation", "every object": "mask-generation",
}  # fmt: skip


def _examples(schema: dict):
    for method, path, operation in operations(schema):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in body.get("examples", {}).items():
            yield pytest.param(method, path, name, example["value"])


def _filled(path: str, name: str) -> str:
    for place, values in _PLACES.items():
        for prefix, value in values.items():
            if path.startswith(prefix):
                path = path.replace(place, _TASKS.get(name, value) if place == "{task}" else value)
    return path.replace("{model}", _MODELS.get(name, "yolov8n-640"))


def test_every_example_of_a_request_is_answered_as_documented(whole_house, schema):
    asked = [example.values for example in _examples(schema)]
    assert len(asked) > 40
    for method, path, name, body in asked:
        answer = whole_house.client.request(
            method, _filled(path.replace("{model}", body.get("model", "{model}")), name), json=body,
            headers={"x-wait-for-model": "true"},
        )  # fmt: skip
        assert answer.status_code == 200, f"{method} {path}, {name}: {answer.text[:300]}"
        content = schema["paths"][path][method]["responses"]["200"]["content"]
        kind = answer.headers["content-type"].partition(";")[0]
        assert kind in content, f"{path}, {name}"
        if kind == "application/json":
            check(schema, content[kind]["schema"], json.loads(answer.content))


def test_every_request_without_a_body_is_answered_as_documented(whole_house, schema):
    whole_house.client.post("/model/add", json={"model_id": "coco/3"})
    for method, path, operation in operations(schema):
        if method == "get" and "{project}/{version}" != path.lstrip("/"):
            model = "smolvlm-256m" if path.startswith(("/v1", "/vi")) else "yolov8n-640"
            url = path.replace("{model}", model).replace("{model_id}", model).replace("{run_id}", model)
            answer = whole_house.client.get(_filled(url, ""))
            assert answer.status_code == 200, f"{path}: {answer.text[:300]}"
            content = operation["responses"]["200"]["content"]
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in content, path
            if kind == "application/json":
                check(schema, content[kind]["schema"], answer.json())


# ---- a fuzzer --------------------------------------------------------------------------------------------------------

EXAMPLES, MANY = 6, 100  # of each operation and kind of data
# Fields that get valid values: otherwise every request would fail at its model's name or its picture.
_SEASONING = (
    "model_id", "model", "image", "inputs", "text", "subject", "prompt", "messages", "training_data",
    "run_id", "source",
)

_NAMES = {
    "model": "yolov8n-640", "model_id": "yolov8n-640", "run_id": "smolvlm-256m", "task": "object-detection",
    "project": "coco", "version": "3",
}


@pytest.fixture(scope="module")
def fuzzed(shared_house):
    """The description of the application, bound to it."""
    return schemathesis.openapi.from_asgi("/openapi.json", shared_house.client.app)


POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
# Operations without body and query have no invalid inputs.
_WITH_FIELDS = {key for key, told in OPERATIONS.items() if told.asks or told.ways} | {("get", "/{project}/{version}")}


EACH = [*[(*key, POSITIVE) for key in sorted(OPERATIONS)], *[(*key, NEGATIVE) for key in sorted(_WITH_FIELDS)]]


def named(value: Any) -> str:
    return value.name if isinstance(value, GenerationMode) else value


@pytest.mark.attack("generated requests to every route")
@pytest.mark.parametrize("method, path, mode", EACH, ids=named)
def test_no_generated_request_gets_an_undocumented_answer(fuzzed, method, path, mode):
    fuzz(fuzzed[path][method], mode)


@pytest.mark.slow
@pytest.mark.attack("generated requests to every route")
@pytest.mark.parametrize("method, path, mode", EACH, ids=named)
def test_none_of_many_generated_requests_gets_an_undocumented_answer(fuzzed, method, path, mode):
    fuzz(fuzzed[path][method], mode, MANY)


def test_no_generated_request_to_the_page_gets_an_undocumented_answer(fuzzed, shared_house):
    told = shared_house.client.get("/openapi.json").json()
    others = {(method, path) for method, path, _ in operations(told)} - OPERATIONS.keys()
    for method, path in others:
        fuzz(fuzzed[path][method], POSITIVE)


def fuzz(operation: schemathesis.APIOperation, mode: GenerationMode, most: int = EXAMPLES) -> None:
    """Calls the operation with generated data, partly with valid values in it; raises for undocumented answers."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    working = [one["value"] for one in content.get("application/json", {}).get("examples", {}).values()]

    @settings(
        max_examples=most, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), working=st.sampled_from([None, *(working or [{}])]))
    def check_one(case: schemathesis.Case, working: dict[str, Any] | None) -> None:
        if working is not None:
            if isinstance(case.body, dict):
                case.body |= {name: working[name] for name in _SEASONING if name in working}
            case.path_parameters |= {name: _NAMES[name] for name in case.path_parameters}
            case.path_parameters |= {name: working[name] for name in case.path_parameters if name in working}
        assume(case.path_parameters.get("project") not in RESERVED)  # the path of another operation
        answer = case.call(headers={"x-wait-for-model": "true"})
        assert answer.status_code < 500 or answer.status_code in (501, 503), answer.text
        case.validate_response(answer, checks=CONFORMANCE)

    check_one()
