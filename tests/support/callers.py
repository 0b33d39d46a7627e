"""Callers with API keys, for tests of the facade: a key's text is its name."""

from __future__ import annotations

import base64
from typing import Any

import httpx

from tritonvision import api_keys
from tritonvision.api_keys import ApiKey

DETECTOR, CLASSIFIER = "yolov8n-640", "resnet18"
BOTH = frozenset(("ask", "manage"))


def key(name: str, **more: Any) -> ApiKey:
    """A key whose text is its name."""
    return ApiKey(name=name, sha256=api_keys.digest(name), **more)


def bearer(name: str | None) -> dict[str, str]:
    """The headers of its requests; None sends no key."""
    return {} if name is None else {"authorization": f"Bearer {name}"}


def ask(house: Any, picture: bytes, model: str, who: str | None) -> httpx.Response:
    """The answer to a question about a picture."""
    image = {"type": "base64", "value": base64.b64encode(picture).decode()}
    route = "/infer/classification" if model == CLASSIFIER else "/infer/object_detection"
    return house.client.post(route, json={"model_id": model, "image": image}, headers=bearer(who))
