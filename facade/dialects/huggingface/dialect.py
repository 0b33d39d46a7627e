"""The dialect of the Hugging Face Inference API."""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.huggingface import errors, openapi, routes

HUGGINGFACE = Dialect(
    "huggingface", ("models", "pipeline", "predict"), (routes.router,), errors, openapi.HuggingFaceError,
    openapi.OPERATIONS,
)  # fmt: skip
