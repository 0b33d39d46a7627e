"""What a failed inference call means: one table from gRPC to the error tree, and whether a second try can help."""

from __future__ import annotations

import grpc

from tritonvision.endpoint import refusal
from tritonvision.errors import (
    OUT_OF_MEMORY,
    DeadlineExceeded,
    InvalidParameter,
    NoRoom,
    NotSupported,
    Overloaded,
    ServerUnavailable,
    TritonVisionError,
    UnknownModel,
    from_wire,
    is_out_of_memory,
)
from tritonvision.publication import FEATURES, Manifest

# Triton's messages for a Python process that died during a request, or before it.
_DEAD_STUB = ("stub process", "stub is not", "is not healthy")
# Triton's messages for tensors that a model does not have or take; in streams they have no code.
_UNEXPECTED = (
    "expected number of inputs", "unexpected inference input", "unexpected inference output", "data-type is",
    "unexpected shape for input", "batch-size must be", "elements for inference input",
)  # fmt: skip
# How it speaks of a request that goes on with a sequence it does not know.
_NO_SEQUENCE = "must specify the start flag"
_GONE = ("failed to connect", "connection refused", "socket closed", "connection reset", "goaway", "recvmsg")


class StreamFailure(grpc.RpcError):
    """The error of one request of a stream, which Triton sends as a message of the stream."""

    def __init__(self, text: str):
        super().__init__(text)
        self._text = text

    def details(self) -> str:
        """Triton's message."""
        return self._text

    def code(self) -> grpc.StatusCode:
        """Streams carry no codes of their own."""
        return grpc.StatusCode.UNAVAILABLE


def lost_process(error: grpc.RpcError) -> bool:
    """Whether a process of the server, or the server, died during the call; a retry may then succeed."""
    details = (error.details() or "").lower()
    if from_wire(details):
        return False
    return any(sign in details for sign in _DEAD_STUB) or (
        error.code() == grpc.StatusCode.UNAVAILABLE and any(sign in details for sign in _GONE)
    )


def dead_stub(error: grpc.RpcError) -> bool:
    """Whether a Python process of the model was dead, or died during the call."""
    details = (error.details() or "").lower()
    return from_wire(details) is None and any(sign in details for sign in _DEAD_STUB)


def another_may_answer(error: grpc.RpcError) -> bool:
    """Whether another server may answer what one has not: it was lost, is leaving, full, or lacks the model."""
    if from_wire(error.details() or "") is not None:
        return False
    lost = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return lost or lost_process(error) or not_loaded(error)


def of_the_server(error: grpc.RpcError) -> bool:
    """Whether a call failed for what the server is or did, and not, as a step or Triton says, for what was asked."""
    return from_wire(error.details() or "") is None and error.code() != grpc.StatusCode.INVALID_ARGUMENT


def of_one_process(error: grpc.RpcError) -> bool:
    """Whether a step failed on what it did not foresee, or ran out of memory: another process of it may not."""
    return error.code() == grpc.StatusCode.INTERNAL


def not_loaded(error: grpc.RpcError) -> bool:
    """Whether Triton does not have the model, or a step of it, ready."""
    details = (error.details() or "").lower()
    return error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE) and (
        "unknown model" in details or "is not ready" in details or "not found" in details
    )


def lost_sequence(error: grpc.RpcError) -> bool:
    """Whether the request goes on with a sequence that Triton, or the process that remembered it, does not know."""
    details = (error.details() or "").lower()
    return _NO_SEQUENCE in details or "is not known here any more" in details


def to_error(error: grpc.RpcError) -> TritonVisionError:
    """The caller's error for a failed call; of Triton's messages only those of our own steps are passed on."""
    code, details = error.code(), error.details() or ""
    spoken = from_wire(details)
    if spoken is not None:
        return spoken
    refused = refusal(error)
    if refused is not None:
        return refused
    if is_out_of_memory(details):  # of a native backend
        return NoRoom(OUT_OF_MEMORY)
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(hint="Raise TRITONVISION_DEADLINE, or send less at once.")
    if lost_sequence(error):
        return InvalidParameter(
            "The sequence of the request is not known here any more.", hint="Begin it again with its first request."
        )
    if _unfit(error):
        return InvalidParameter(
            "The model does not take what the request holds: a tensor has another name, type or shape.",
            hint="docs/head-kinds.md lists what it takes.",
        )
    if not_loaded(error):
        return UnknownModel("The inference server does not have this model loaded.")
    if code == grpc.StatusCode.UNAVAILABLE and "exceeds maximum queue size" in details.lower():
        return Overloaded(retry_after=1)
    return ServerUnavailable("The inference server could not answer.", hint="Its log tells why.", retry_after=2)


def _unfit(error: grpc.RpcError) -> bool:
    """Whether Triton refused the tensors of the request; those that one step gives the next are not the caller's."""
    details = error.details() or ""
    if isinstance(error, StreamFailure):
        return any(sign in details for sign in _UNEXPECTED)
    return error.code() == grpc.StatusCode.INVALID_ARGUMENT and "in ensemble '" not in details


def no_entry_point(manifest: Manifest, role: str) -> TritonVisionError:
    """The error of a question to an entry point that the model does not have."""
    if role == FEATURES:
        return NotSupported(
            f"'{manifest.id}' was published without its features.",
            hint="Export it again with --force; a classifier that was imported as a graph has none.",
        )
    return InvalidParameter(f"'{manifest.id}' does not take {role}.")
