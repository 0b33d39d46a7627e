"""Error bodies of Roboflow's dialect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonvision.errors import InvalidPicture, TritonVisionError, Unauthorized
from tritonvision.facade.replies import sentence

_UNREADABLE = "Could not load input image. Cause: "


def error_body(error: TritonVisionError) -> dict[str, Any]:
    """``{"message"}``."""
    if isinstance(error, Unauthorized):
        return {"status": 401, "message": sentence(error)}
    if isinstance(error, InvalidPicture):
        return {"message": _UNREADABLE + sentence(error)}
    return {"message": sentence(error)}


def http_error_body(status: int, sentence: str) -> dict[str, Any]:
    """``{"message"}``."""
    return {"message": sentence}


def invalid(problems: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, Any]]:
    """``{"detail": [{type, loc, msg}]}``; without the values, which may be a picture or a key."""
    return 422, {"detail": [{name: problem[name] for name in ("type", "loc", "msg")} for problem in problems]}
