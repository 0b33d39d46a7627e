"""Error bodies of OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonvision.errors import TooManyRequests, TritonVisionError, Unauthorized, UnknownModel
from tritonvision.facade.replies import sentence

_CODES = {
    UnknownModel: "model_not_found", Unauthorized: "invalid_api_key", TooManyRequests: "rate_limit_exceeded",
}  # fmt: skip
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"error": {message, type, param, code}}``."""
    return _error(sentence(error), error.status, code=_CODES.get(type(error), error.code))


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"error": {message, type, param, code}}``."""
    return _error(sentence, status)


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """The first validation error and its field; without the value, which may be a picture or a key."""
    problem = problems[0]
    where = ".".join(str(step) for step in problem["loc"] if step != "body")
    told = f"{where}: {problem['msg']}" if where else problem["msg"]
    return 400, _error(told, 400, param=where or None, code="invalid_request")


def _error(told: str, status: int, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": told, "type": kind, "param": param, "code": code}}
