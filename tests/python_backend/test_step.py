"""Every request of a step gets one answer or one refusal, and nothing of the inside is in either."""

import time

import numpy as np
import pytest

from tritonvision.errors import InvalidParameter, TritonVisionError
from tritonvision.heartbeat import FOLDER_VARIABLE
from tritonvision.python_backend.step import Step, read_json, read_parameters
from tritonvision.step_reports import Pipe, new_id, parse


class Echo(Step):
    """Answers ``x``; -1 is refused, -2 fails, -3 answers what cannot be sent, for -4 and -5 memory does not suffice."""

    def setup(self, parameters, args):
        self.parameters, self.args = parameters, args

    def answer(self, tensors, wanted):
        self.wanted = wanted
        (x,) = tensors["x"]
        if x == -1:
            raise InvalidParameter("The number is negative.")
        if x == -2:
            raise ZeroDivisionError("/home/somebody/secret.py")
        if x == -4:
            raise RuntimeError("onnxruntime: Failed to allocate memory for requested buffer of size 9 at /opt/x.cc")
        if x == -5:
            raise MemoryError
        return {"y": np.array([None], dtype=object)} if x == -3 else {"y": tensors["x"]}


@pytest.fixture
def step(triton, tmp_path):
    made = Echo()
    made.initialize(triton.args(tmp_path, {"head": "classes"}))
    return made


def asked(triton, *numbers):
    return [triton.Request({"x": np.array([x])}, ["y"]) for x in numbers]


def test_a_step_is_set_up_from_the_parameters_of_its_config(step, tmp_path):
    assert step.parameters == {"head": "classes"} and step.name == "m"
    assert step.args["model_repository"] == str(tmp_path)


def test_each_request_is_answered_or_refused_by_itself(step, triton):
    first, refused, failed, unsendable, last = step.execute(asked(triton, 1, -1, -2, -3, 2))
    assert first.tensors["y"] == [1] and last.tensors["y"] == [2] and step.wanted == ["y"]
    assert refused.error().message() == "[invalid_parameter] The number is negative."
    assert refused.error().code == "INVALID_ARG"
    for response in (failed, unsendable):
        assert response.error().message() == "[internal] The model failed on this input."
        assert response.error().code == "INTERNAL"


@pytest.mark.parametrize("number", [-4, -5])
def test_exhausted_memory_is_told_as_that(step, triton, number):
    (failed,) = step.execute(asked(triton, number))
    assert failed.error().message() == "[no_room] The model ran out of memory on this input."
    assert len(triton.log) == 1


def test_the_trace_of_a_fault_is_in_the_log_with_the_models_name_and_a_refusal_is_not(step, triton):
    step.execute(asked(triton, -1))
    assert triton.log == []
    step.execute(asked(triton, -2))
    (entry,) = triton.log
    assert entry.startswith("m: Traceback") and "ZeroDivisionError" in entry and "test_step.py" in entry


def test_parameters_are_one_json_object_a_sample_and_may_be_absent(triton):
    assert read_parameters({}, 2) == [{}, {}]
    assert read_parameters({"parameters": triton.texts({"a": 1}, b"")}, 2) == [{"a": 1}, {}]


@pytest.mark.parametrize(("sent", "sentence"), [
    (b"{", "'parameters' is not JSON"),
    (b"\xff", "'parameters' is not JSON"),
    (b"[1]", "must be a JSON object"),
    (b"[" * 200_000, "nested too deeply"),
    (b'{"a":' * 100_000, "nested too deeply"),
])  # fmt: skip
def test_parameters_that_cannot_be_read_are_refused(triton, sent, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        read_parameters({"parameters": triton.texts(sent)}, 1)


def test_the_sentence_names_what_was_sent():
    with pytest.raises(TritonVisionError, match="'messages' is not JSON"):
        read_json("no", "messages")


def test_a_step_tells_how_long_it_worked_on_each_request_of_ours(triton, tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    pipe = Pipe(tmp_path)
    step, one, refused = Echo(), new_id(), new_id()
    step.initialize(triton.args(tmp_path, {}))
    before = time.monotonic_ns()
    step.execute([triton.Request({"x": np.array([x])}, ["y"], name) for x, name in ((1, one), (-1, refused), (2, ""))])
    told = [parse(line) for line in pipe.read().splitlines()]
    pipe.close()
    assert [(name, stage.model) for name, stage in told] == [(one, "m"), (refused, "m")]
    assert before <= told[0][1].began <= told[0][1].ended <= told[1][1].began <= time.monotonic_ns()
