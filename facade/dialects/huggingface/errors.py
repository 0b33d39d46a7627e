"""Error bodies of the Hugging Face Inference API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonvision.errors import ModelLoading, TritonVisionError
from tritonvision.facade.replies import sentence

_LOADING_SECONDS = 5.0


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"error"}``, and ``estimated_time`` in seconds while a model loads."""
    if isinstance(error, ModelLoading):
        return {"error": sentence(error), "estimated_time": float(error.retry_after or _LOADING_SECONDS)}
    return {"error": sentence(error)}


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"error"}``."""
    return {"error": sentence}


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """``{"error": [sentence, ...]}``."""
    return 400, {"error": [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems]}
