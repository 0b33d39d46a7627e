"""Vi's errors: each is one of Vi's kinds and one of Python's own, by which programs tell them apart."""

from __future__ import annotations

from tritonvision import errors


class ViError(Exception):
    """Base of all errors of this interface.

    Attributes:
        message: one plain sentence.
        error_code: stable, see :mod:`tritonvision.errors`.
        status_code: of HTTP, where it is an answer's.
        suggestion: what to do about it, or empty.
        retry_after: seconds after which a retry makes sense, or None.
    """

    def __init__(
        self, message: str, error_code: str = "internal", status_code: int | None = None, suggestion: str = "",
        retry_after: float | None = None,
    ):  # fmt: skip
        super().__init__(message)
        self.message, self.error_code, self.status_code = message, error_code, status_code
        self.suggestion, self.retry_after = suggestion, retry_after

    def __str__(self) -> str:
        return f"{self.message} {self.suggestion}".strip()


class ViConfigurationError(ViError, ValueError):
    """What the model was made with is missing, or cannot come true."""


class ViMissingModelError(ViConfigurationError, AttributeError):
    """No model is named."""


class ViValidationError(ViError, ValueError):
    """A picture cannot be read, or a setting does not fit."""


class ViFileNotFoundError(ViError, FileNotFoundError):
    """There is no such file."""


class ViNotFoundError(ViError, LookupError):
    """Nobody knows the run."""


class ViAuthenticationError(ViError, PermissionError):
    """The key is missing or wrong."""


class ViRateLimitError(ViError, ConnectionError):
    """The server has more work than it can finish in time, or the model is still loading."""


class ViServerError(ViError, RuntimeError):
    """The server failed."""


class ViConnectionError(ViError, ConnectionError):
    """The server does not answer."""


class ViTimeoutError(ViError, TimeoutError):
    """The answer was not ready in time."""


class ViOutOfMemoryError(ViError, MemoryError):
    """Memory did not suffice: the message says ``out of memory``."""


class ViUnsupportedError(ViError, NotImplementedError):
    """The model or the server cannot do this."""


_EXHAUSTED = "out of memory"
_KINDS: dict[type[errors.TritonVisionError], type[ViError]] = {
    errors.InvalidPicture: ViValidationError, errors.PictureTooLarge: ViValidationError,
    errors.InvalidParameter: ViValidationError, errors.Unauthorized: ViAuthenticationError,
    errors.Forbidden: ViAuthenticationError, errors.UnknownModel: ViNotFoundError,
    errors.NotSupported: ViUnsupportedError, errors.ModelLoading: ViRateLimitError,
    errors.Overloaded: ViRateLimitError, errors.NoRoom: ViOutOfMemoryError,
    errors.ServerUnavailable: ViConnectionError, errors.DeadlineExceeded: ViTimeoutError,
    errors.TooManyRequests: ViRateLimitError, errors.RequestTooSlow: ViTimeoutError,
    errors.SetupError: ViConfigurationError,
}  # fmt: skip


def of(error: errors.TritonVisionError) -> ViError:
    """The error of this interface for one of ours."""
    kind = next((_KINDS[base] for base in type(error).__mro__ if base in _KINDS), ViServerError)
    message = error.message
    if kind is ViOutOfMemoryError and _EXHAUSTED not in message:
        message = f"The server is {_EXHAUSTED}: {message}"
    return kind(message, error.code, error.status, error.hint, error.retry_after)


def builtin_name(error: ViError) -> str:
    """The name of the error of Python that it is, as the REST routes tell it: ``ValueError``."""
    return next(base.__name__ for base in type(error).__mro__ if base.__module__ == "builtins")
