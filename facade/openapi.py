"""``/openapi.json``: the routes that FastAPI finds, with answers, errors in the form of their dialect, and examples.

Schemas of requests come from the routes themselves, all else from the dialects' ``openapi.py``. A route without an
entry there, such as the page's own, keeps FastAPI's description and gets the errors that every route has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from tritonvision import errors
from tritonvision.facade.dialects.operations import HEALTH, JSON, LOADING, MODELS, Operation
from tritonvision.facade.dialects.registry import DIALECTS, HEALTH_PATHS, OPEN_PATHS, OPERATIONS, dialect_of
from tritonvision.facade.dialects.roboflow.answer_types import RoboflowInvalid

# The example error of each status. 422 is no error of the tree: bodies that do not fit their schema.
_BY_STATUS: dict[int, errors.TritonVisionError] = {
    400: errors.InvalidParameter("'confidence' must lie between 0 and 1, not 1.5."),
    401: errors.Unauthorized("An API key is required."),
    403: errors.Forbidden("Web pages of other origins may not use this server."),
    404: errors.UnknownModel("No model is called 'nobody/1'."),
    408: errors.RequestTooSlow(),
    413: errors.PictureTooLarge("The request is over the limit of 64 MB."),
    429: errors.TooManyRequests("This API key may send 10 requests a second.", retry_after=1),
    501: errors.NotSupported(),
    502: errors.ServerUnavailable(),
    503: errors.ModelLoading(retry_after=2),
    504: errors.DeadlineExceeded(),
    507: errors.NoRoom(),
}
_MEANING = {
    400: "The picture, or a setting, is not one that can be read.", 401: "The API key is missing or wrong.",
    403: "The request comes from a web page of another origin, was meant for a server of another name, or has an API "
    "key that is not for this.",
    404: "No model goes by that name, it is not published here, or no route by that path.",
    408: "The body came too slowly.",
    413: "The picture or the request is over the limit.", 422: "The request does not fit its schema.",
    429: "It is more than the API key may ask.",
    501: "The model or the server cannot do this.", 502: "The inference server does not answer.",
    503: "The model is loading, or the server has as much work as it can do.",
    504: "The answer was not ready in time.", 507: "The model does not fit beside the others.",
}  # fmt: skip
_REFERENCE = "#/components/schemas/{model}"
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "The API key, where the server wants one."},
    "query": {"type": "apiKey", "in": "query", "name": "api_key", "description": "The same; or 'api_key' in a body."},
}


_GROUPS = {
    "Roboflow": "Questions about pictures, as clients of Roboflow Inference ask them.",
    "Hugging Face": "Questions about pictures, as clients of the Hugging Face Inference API ask them.",
    "OpenAI": "Conversations about pictures, as clients of OpenAI's chat completions have them.",
    "Vi": "Questions about pictures, as Datature Vi's clients ask them.",
    "KServe": "Questions as tensors, as clients of Triton and of KServe's v2 protocol ask them.",
    MODELS: "Which models there are, and what they are.",
    LOADING: "Which models are loaded, to load and to unload them. A model loads by itself when it is first asked.",
    HEALTH: "For probes, Prometheus and people: whether the server is well.",
}


def describe(app: FastAPI) -> None:
    """Set this description as ``app``'s; it is computed at the first request."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes,
                         tags=[{"name": name, "description": told} for name, told in _GROUPS.items()])  # fmt: skip
    answers = {key: told.answer for key, told in OPERATIONS.items() if told.answer is not None}
    refusals = {("error", dialect.name): dialect.error_type for dialect in DIALECTS}
    refusals[("error", "422")] = RoboflowInvalid
    types: list[tuple[tuple[str, str], JsonSchemaMode, TypeAdapter[Any]]] = [
        (key, "serialization", TypeAdapter(kind)) for key, kind in {**answers, **refusals}.items()
    ]
    schemas, definitions = TypeAdapter.json_schemas(types, ref_template=_REFERENCE)
    known = {key: found for (key, _), found in schemas.items()}
    components = schema.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **definitions.get("$defs", {})}
    components["securitySchemes"] = _SECURITY
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own schema, which no dialect has
        components["schemas"].pop(unused, None)
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            names_something = (400, 404) if "{" in path else ()
            told = OPERATIONS.get((method, path), Operation(operation["summary"], statuses=names_something))
            _tell(operation, path, method, told, known)
    return schema


def _tell(operation: dict[str, Any], path: str, method: str, told: Operation, known: Mapping[Any, Any]) -> None:
    operation["summary"] = told.summary
    operation.setdefault("description", told.summary)
    responses = operation["responses"]
    for made_up in ("422", "4XX"):
        responses.pop(made_up, None)
    if told.answer is not None or told.media:
        content = dict(told.media)
        if told.answer is not None:
            content[JSON] = {"schema": known[method, path], "example": told.example}
        responses["200"] = {"description": "The answer.", "content": content}
    elif told.statuses == (501,):
        responses.pop("200", None)
    if path not in OPEN_PATHS:
        operation["security"] = [{}, {"bearer": []}, {"query": []}]
    for status in sorted({*told.statuses, 403, 408, 413, 503} | (set() if path in OPEN_PATHS else {401, 429})):
        responses[str(status)] = _refusal(path, status, known)
    if path in HEALTH_PATHS:
        responses["503"]["content"][JSON] = {"schema": known[method, path], "example": told.example}
        responses["503"]["description"] = "It is not."
    if told.ways:
        operation["requestBody"] = {"required": True, "content": dict(told.ways)}
    if told.asks:
        body = operation["requestBody"]["content"][JSON]
        body["examples"] = {name: {"value": value} for name, value in told.asks.items()}


def _refusal(path: str, status: int, known: Mapping[Any, Any]) -> dict[str, Any]:
    if status == 422:
        problem = {"type": "missing", "loc": ["body", "image"], "msg": "Field required"}
        content = {"schema": known["error", "422"], "example": {"detail": [problem]}}
    else:
        example = dialect_of(path).errors.error_body(_BY_STATUS[status])
        content = {"schema": known["error", dialect_of(path).name], "example": example}
    told: dict[str, Any] = {"description": _MEANING[status], "content": {JSON: content}}
    if status in (429, 503):
        told["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return told
