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
        message: one plain sentence; never a path, an address or a traceback of the server. Without one it is the
            ``sentence`` of the class, which is no docstring: Python leaves those out under PYTHONOPTIMIZE=2.
        hint: what to do about it, or empty.
        retry_after: seconds after which a retry makes sense, for retryable errors.
    """

    code = "internal"
    status = 500
    retryable = False
    sentence = "Something went wrong in the server."

    def __init__(self, message: str = "", *, hint: str = "", retry_after: float | None = None):
        self.message = message or self.sentence
        self.hint = hint
        self.retry_after = retry_after
        super().__init__(self.message)


class InvalidPicture(TritonVisionError):
    """The bytes sent cannot be decoded as a picture."""

    code, status = "invalid_picture", 400
    sentence = "The bytes are not a picture that can be read."


class PictureTooLarge(TritonVisionError):
    """A picture or a request body beyond a limit of the settings."""

    code, status = "too_large", 413
    sentence = "The picture or the request body is over the limit."


class InvalidParameter(TritonVisionError):
    """A setting of a request, or of this process, that does not fit."""

    code, status = "invalid_parameter", 400
    sentence = "A setting of the request is unknown or out of its range."


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
    """No API key, or a wrong one."""

    code, status = "unauthorized", 401
    sentence = "The API key is missing or wrong."


class Forbidden(TritonVisionError):
    """The request's origin or host is not allowed, or its API key is known and not for this."""

    code, status = "forbidden", 403
    sentence = "Requests from there are not taken."


class TooManyRequests(TritonVisionError):
    """More than this caller may ask: of its own limit, not of what the server can do."""

    code, status = "too_many_requests", 429
    sentence = "This is more than the API key may ask."


class RequestTooSlow(TritonVisionError):
    """The request's body came too slowly."""

    code, status = "request_timeout", 408
    sentence = "The request's body came too slowly."


class UnknownModel(TritonVisionError):
    """A name that nothing is published under."""

    code, status = "unknown_model", 404
    sentence = "No model goes by that name, or it is not published here."


class NotSupported(TritonVisionError):
    """A task that the model or the server does not do."""

    code, status = "not_supported", 501
    sentence = "The model or the server cannot do this task."


class ModelLoading(TritonVisionError):
    """A model whose load or export is under way."""

    code, status, retryable = "model_loading", 503, True
    sentence = "The model is still loading."


class Overloaded(TritonVisionError):
    """More work than can be finished in time."""

    code, status, retryable = "overloaded", 503, True
    sentence = "The server has more work than it can finish in time."


class NoRoom(TritonVisionError):
    """A model that does not fit into the memory budget."""

    code, status = "no_room", 507
    sentence = "The model does not fit beside the others."


class BrokenModel(TritonVisionError):
    """A published model whose files changed since, or that answers what are no numbers."""

    code = "broken_model"
    sentence = "The model's files are damaged."


class ServerUnavailable(TritonVisionError):
    """A tritonserver that does not answer."""

    code, status, retryable = "server_unavailable", 502, True
    sentence = "The inference server does not answer."


class DeadlineExceeded(TritonVisionError):
    """An answer that was not ready in time."""

    code, status, retryable = "deadline_exceeded", 504, True
    sentence = "The answer was not ready in time."


class ExportFailed(TritonVisionError):
    """An export that published nothing."""

    code = "export_failed"
    sentence = "The export did not produce a model that computes what its reference computes."


class SetupError(TritonVisionError):
    """Something that this machine lacks or that is taken."""

    code = "setup"
    sentence = "Something on this machine is missing or taken."


# How allocators, engines and drivers say that memory did not suffice.
_EXHAUSTED = ("out of memory", "bad_alloc", "bad allocation", "failed to allocate", "cannot allocate memory")
OUT_OF_MEMORY = "The model ran out of memory on this input."


def is_out_of_memory(text: str) -> bool:
    """Whether the message of a failure says that memory did not suffice."""
    return any(sign in text.lower() for sign in _EXHAUSTED)


_KINDS: list[type[TritonVisionError]] = [TritonVisionError, *TritonVisionError.__subclasses__()]
BY_CODE: dict[str, type[TritonVisionError]] = {kind.code: kind for kind in _KINDS}
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
