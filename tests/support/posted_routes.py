"""The routes that are posted to, a valid body for each, and the form of a refusal: out of the OpenAPI description."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from tritonvision.engine.engine import Engine
from tritonvision.facade.app import create_app
from tritonvision.facade.dialects.registry import dialect_of
from tritonvision.facade.dialects.unowned import UNOWNED
from tritonvision.settings import Settings

UNREADABLE = "Could not load input image. Cause: "
HOLES = {
    "{model_id}": "", "{model}": "", "{run_id}": "", "{task}": "object-detection", "{project}": "coco",
    "{version}": "3",
}  # fmt: skip
WAIT = {"x-wait-for-model": "true", "x-use-cache": "false"}


@functools.cache
def paths() -> dict[str, dict[str, Any]]:
    """The description of all routes, from an application that serves no requests."""
    settings = Settings(repository=Path("nowhere"), triton_url="127.0.0.1:1")
    return create_app(Engine(settings), settings).openapi()["paths"]


class Route:
    """A route that is posted to.

    Attributes:
        path: with its placeholders filled in.
        body: a valid one; the picture in base64 for the legacy route.
        dialect: of its errors.
    """

    def __init__(self, template: str, operation: dict[str, Any]):
        self.template, self.dialect = template, dialect_of(template).name
        self.content = operation.get("requestBody", {}).get("content", {})
        body = self.content.get("application/json", {})
        examples = [example["value"] for example in body.get("examples", {}).values()]
        self.body = examples[0] if examples else self.content.get("text/plain", {}).get("example")
        self.fields = body.get("schema", {}).get("properties", {})
        self.required = body.get("schema", {}).get("required", [])
        self.legacy = template == "/{project}/{version}"
        named = self.body if isinstance(self.body, dict) else {}
        model = named.get("model_id") or named.get("model") or named.get("run_id") or "yolov8n-640"
        self.path = template
        for hole, value in HOLES.items():
            self.path = self.path.replace(hole, value or model)

    def __repr__(self) -> str:
        return self.template

    def post(self, house, body: Any, **options: Any):
        options.setdefault("headers", {}).update(WAIT)
        if self.legacy:
            options["headers"].setdefault("content-type", "application/json")
            return house.client.post(self.path, content=body, **options)
        return house.client.post(self.path, json=body, **options)


POSTED = [Route(path, methods["post"]) for path, methods in paths().items() if "post" in methods]
ASKED = [route for route in POSTED if route.body is not None]
JSON = [route for route in ASKED if not route.legacy]
NAMES = ("model_id", "model", "run_id")
NAMED = [route for route in JSON if {*NAMES} & route.fields.keys() or route.dialect == "huggingface"]


def assert_told(answer, route: Route, *statuses: int) -> str:
    """Asserts one of ``statuses``, the error form of the route's dialect and no internals; returns the text."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:300]}"
    body = answer.json()
    if dialect_of(answer.request.url.path) is UNOWNED:  # Hugging Face's clients read the same as ``error``
        told = body.pop("error")
        assert told == body["message"].removeprefix(UNREADABLE) if "message" in body else isinstance(told, list)
    if route.dialect == "openai":
        assert body.keys() == {"error"} and body["error"].keys() == {"message", "type", "param", "code"}
        text = body["error"]["message"]
    elif route.dialect == "vi":
        assert body.keys() == {"error", "error_code"} and body["error_code"].isalpha()
        text = body["error"]
    elif route.dialect == "kserve":
        assert body.keys() == {"error"}
        text = body["error"]
    elif route.dialect == "huggingface":
        assert body.keys() - {"estimated_time"} == {"error"}
        text = body["error"][0] if isinstance(body["error"], list) else body["error"]
    elif answer.status_code == 422:
        assert body.keys() == {"detail"} and all(one.keys() == {"type", "loc", "msg"} for one in body["detail"])
        text = body["detail"][0]["msg"]
    else:
        assert body.keys() - {"status"} == {"message"}
        text = body["message"]
    assert isinstance(text, str) and text and answer.headers["x-request-id"]
    assert not any(inner in answer.text for inner in ("Traceback", ".py", "object at 0x", str(Path.home()) + "/"))
    return text
