"""The dialect of OpenAI's chat completions and embeddings."""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.openai import embeddings, errors, openapi, routes

_HEALTH = frozenset(("/v1/health/live", "/v1/health/ready"))
OPENAI = Dialect(
    "openai", ("v1",), (routes.router, embeddings.router), errors, openapi.OpenAIError, openapi.OPERATIONS,
    open_paths=_HEALTH, health_paths=_HEALTH,
)  # fmt: skip
