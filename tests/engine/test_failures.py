"""The table from gRPC to the error tree: what steps said passes, what Triton says of itself does not."""

from __future__ import annotations

import grpc
import pytest

from tritonvision import errors
from tritonvision.engine import failures

DEAD = (
    "in ensemble 'm', Failed to process the request(s) for model instance 'pre_0_0', "
    "message: Stub process 'pre_0_0' is not healthy."
)


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


C = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "error"),
    [
        (C.INVALID_ARGUMENT, "in ensemble 'm', [invalid_picture] The JPEG is cut short.", errors.InvalidPicture),
        (C.INVALID_ARGUMENT, "[invalid_parameter] Unknown parameter 'x'.", errors.InvalidParameter),
        (C.INVALID_ARGUMENT, "expected number of inputs between 1 and 2 but got 3 inputs", errors.InvalidParameter),
        (C.INVALID_ARGUMENT, "[request id: 7] inference request batch-size must be <= 8", errors.InvalidParameter),
        (C.INVALID_ARGUMENT, "in ensemble 'm', unexpected shape for input 'boxes'", errors.ServerUnavailable),
        (C.INVALID_ARGUMENT, "request for sequence 7 of 'm' must specify the START flag", errors.InvalidParameter),
        (C.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (C.NOT_FOUND, "Request for unknown model: 'm' is not found", errors.UnknownModel),
        (C.UNAVAILABLE, "Request for unknown model: 'm' has no available versions", errors.UnknownModel),
        (C.UNAVAILABLE, "Exceeds maximum queue size", errors.Overloaded),
        (C.INTERNAL, "secret path /opt/x.py line 3", errors.ServerUnavailable),
        (C.INTERNAL, "CUDA out of memory at /opt/x.cc", errors.NoRoom),
        (C.INTERNAL, "onnx runtime error 6: std::bad_alloc", errors.NoRoom),
    ],
)
def test_a_failed_call_is_an_error_of_the_tree(code, details, error):
    found = failures.to_error(Failed(code, details))
    assert type(found) is error
    assert "/opt" not in found.message and "ensemble" not in found.message


def test_a_sequence_whose_server_left_is_begun_again_as_one_that_triton_does_not_know():
    error = failures.StreamFailure("The server of the sequence is not known here any more.")
    assert failures.lost_sequence(error) and type(failures.to_error(error)) is errors.InvalidParameter


def test_a_dead_process_and_a_gone_server_are_worth_another_try():
    assert failures.lost_process(Failed(C.INTERNAL, DEAD))
    assert failures.lost_process(Failed(C.UNAVAILABLE, "failed to connect to all addresses; Connection refused"))
    assert not failures.lost_process(Failed(C.INVALID_ARGUMENT, "[invalid_picture] The stub process is not healthy."))
    assert not failures.lost_process(Failed(C.UNAVAILABLE, "Exceeds maximum queue size"))


def test_what_a_step_did_not_foresee_may_be_of_one_process_and_a_refusal_is_not():
    assert failures.of_one_process(Failed(C.INTERNAL, "[error] The model failed on this input."))
    assert failures.of_one_process(Failed(C.INTERNAL, "[no_room] The model ran out of memory on this input."))
    assert not failures.of_one_process(Failed(C.INVALID_ARGUMENT, "[invalid_picture] The JPEG is cut short."))
    assert not failures.of_one_process(Failed(C.DEADLINE_EXCEEDED, "Deadline Exceeded"))
