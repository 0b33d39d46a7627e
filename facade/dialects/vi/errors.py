"""Error bodies of Vi's routes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonvision import errors
from tritonvision.errors import TritonVisionError
from tritonvision.facade.replies import sentence

_CODES: dict[type[TritonVisionError], str] = {
    errors.UnknownModel: "ResourceNotFound", errors.Unauthorized: "Unauthorized", errors.Forbidden: "Forbidden",
    errors.InvalidParameter: "InvalidRequest", errors.InvalidPicture: "InvalidRequest",
    errors.PictureTooLarge: "RequestTooLarge", errors.ModelLoading: "ModelLoading", errors.Overloaded: "RateLimited",
    errors.DeadlineExceeded: "Timeout", errors.RequestTooSlow: "Timeout", errors.NotSupported: "NotSupported",
    errors.NoRoom: "OutOfMemory", errors.TooManyRequests: "RateLimited",
}  # fmt: skip
_FAILED = "InternalError"
_BY_STATUS = {404: "ResourceNotFound", 405: "MethodNotAllowed"}


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"error", "error_code"}``."""
    return {"error": sentence(error), "error_code": _CODES.get(type(error), _FAILED)}


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"error", "error_code"}``."""
    return {"error": sentence, "error_code": _BY_STATUS.get(status, "InvalidRequest" if status < 500 else _FAILED)}


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """The first validation error and its field; without the value, which may be a picture or a key."""
    problem = problems[0]
    where = ".".join(str(step) for step in problem["loc"] if step != "body")
    return 400, {"error": f"{where}: {problem['msg']}".removeprefix(": "), "error_code": "InvalidRequest"}
