"""Error bodies of KServe's v2 protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonvision.errors import TritonVisionError
from tritonvision.facade.replies import sentence


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"error"}``."""
    return {"error": sentence(error)}


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"error"}``."""
    return {"error": sentence}


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """The first validation error and its field; without the value."""
    problem = problems[0]
    where = ".".join(str(step) for step in problem["loc"] if step != "body")
    return 400, {"error": f"{where}: {problem['msg']}" if where else problem["msg"]}
