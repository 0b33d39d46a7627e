"""Networks of a model's own process, with a real onnxruntime and a graph that adds."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tritonvision.python_backend.runtime import onnxruntime_session, sessions
from tritonvision.python_backend.runtime.sessions import Sessions


@pytest.fixture
def graph(tmp_path):
    """``total`` = a + b and ``double`` = a + a of float32 ``[B,2]``."""
    a, b, total, double = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 2]) for name in
                           ("a", "b", "total", "double"))  # fmt: skip
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Add", ["a", "a"], ["double"])]
    model = helper.make_model(
        helper.make_graph(nodes, "adds", [a, b], [total, double]), opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )  # fmt: skip
    onnx.save(model, tmp_path / "adds.onnx")
    return tmp_path / "adds.onnx"


A, B = np.float32([[1, 2]]), np.float32([[10, 20]])


def test_outputs_come_by_name_in_any_order_and_only_those_that_were_asked_for(graph):
    networks = Sessions({"adder": graph})
    assert networks("adder", {"a": A, "b": B}, ["total"])["total"].tolist() == [[11, 22]]
    both = networks("adder", {"a": A, "b": B}, ["double", "total"])
    assert {name: value.tolist() for name, value in both.items()} == {"double": [[2, 4]], "total": [[11, 22]]}


def test_the_session_itself_is_at_hand(graph):
    assert [value.name for value in Sessions({"adder": graph})["adder"].get_inputs()] == ["a", "b"]


def test_sessions_that_are_open_are_asked_the_same_way(graph):
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    networks = Sessions.of({"adder": session})
    assert networks["adder"] is session
    assert networks("adder", {"a": A, "b": B}, ["double"])["double"].tolist() == [[2, 4]]


def test_no_thread_spins_between_two_tokens(graph, monkeypatch):
    made = []

    class Options(onnxruntime.SessionOptions):
        def __init__(self):
            super().__init__()
            made.append(self)

    monkeypatch.setattr(onnxruntime_session.onnxruntime, "SessionOptions", Options)
    Sessions({"adder": graph})
    assert made[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert made[0].inter_op_num_threads == 1


def test_memory_is_handed_back_or_the_libc_has_no_way_to(monkeypatch):
    sessions.release_free_memory()

    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(sessions.ctypes, "CDLL", missing)
    sessions.release_free_memory()
