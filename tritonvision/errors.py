"""Every error a person can meet: one sentence, a hint, a stable code, an HTTP status.

The tree is small on purpose. A dialect dresses an error in its own JSON and never invents one; the Triton steps send
the same errors across the wire as ``[code] sentence`` (:func:`to_wire`, :func:`from_wire`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class TritonVisionError(Exception):
    """Base of all errors meant for people.

    Args:
        message: one plain sentence; never a path, an address or a traceback of the server.
        hint: what to do about it, or empty.
        retry_after: seconds after which a retry makes sense, for retryable errors.
    """

    code = "internal"
    status = 500
    retryable = False

    def __init__(self, message: str = "", *, hint: str = "", retry_after: float | None = None):
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0]
        self.hint = hint
        self.retry_after = retry_after
        super().__init__(self.message)


class InvalidPicture(TritonVisionError):
    """The bytes are not a picture that can be read."""

    code, status = "invalid_picture", 400


class PictureTooLarge(TritonVisionError):
    """The picture or the request body is over the limit."""

    code, status = "too_large", 413


class InvalidParameter(TritonVisionError):
    """A setting of the request is unknown or out of its range."""

    code, status = "invalid_parameter", 400


@contextmanager
def one_of_several(number: int, count: int) -> Iterator[None]:
    """Refusals of the picture with this ``number`` (from 1) say which of ``count`` it is, when there are several."""
    try:
        yield
    except (InvalidPicture, PictureTooLarge) as error:
        if count == 1:
            raise
        raise type(error)(f"Picture {number} of {count}: {error.message}", hint=error.hint) from error


class Unauthorized(TritonVisionError):
    """The API key is missing or wrong."""

    code, status = "unauthorized", 401


class UnknownModel(TritonVisionError):
    """No model goes by that name, or it is not published here."""

    code, status = "unknown_model", 404


class NotSupported(TritonVisionError):
    """The model or the server cannot do this task."""

    code, status = "not_supported", 501


class ModelLoading(TritonVisionError):
    """The model is still loading."""

    code, status, retryable = "model_loading", 503, True


class Overloaded(TritonVisionError):
    """The server has more work than it can finish in time."""

    code, status, retryable = "overloaded", 503, True


class NoRoom(TritonVisionError):
    """The model does not fit beside the others."""

    code, status = "no_room", 507


class ServerUnavailable(TritonVisionError):
    """The inference server does not answer."""

    code, status, retryable = "server_unavailable", 502, True


class DeadlineExceeded(TritonVisionError):
    """The answer was not ready in time."""

    code, status, retryable = "deadline_exceeded", 504, True


class ExportFailed(TritonVisionError):
    """The export did not produce a model that computes what its reference computes."""

    code = "export_failed"


class SetupError(TritonVisionError):
    """Something on this machine is missing or taken."""

    code = "setup"


BY_CODE: dict[str, type[TritonVisionError]] = {
    cls.code: cls for cls in (TritonVisionError, *TritonVisionError.__subclasses__())
}
_WIRE = re.compile(r"\[(?P<code>[a-z_]+)\] (?P<message>[^\n]*)")


def to_wire(error: TritonVisionError) -> str:
    """The text by which a Triton step reports ``error``: ``[code] sentence``."""
    return f"[{error.code}] {error.message}"


def from_wire(text: str) -> TritonVisionError | None:
    """The error a Triton step reported with :func:`to_wire`, or None when ``text`` is something else."""
    found = _WIRE.search(text)
    if found is None or found["code"] not in BY_CODE:
        return None
    return BY_CODE[found["code"]](found["message"])
