"""ONNX Runtime as a Triton backend: a config of the native backend means the same here."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tritonvision.python_backend import onnxruntime_backend
from tritonvision.python_backend.onnxruntime_backend import TritonPythonModel, run_options, session_options

PARAMETERS = {
    "intra_op_thread_count": "2", "inter_op_thread_count": "1", "session.intra_op.allow_spinning": "0",
}  # fmt: skip


@pytest.fixture
def open_model(triton, tmp_path):
    def make(file="model.onnx", count=2, parameters=PARAMETERS, outputs=("double", "same"), **config):
        (tmp_path / "1").mkdir(exist_ok=True)
        names = ("x", "double", "same")
        x, double, same = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 2]) for name in names)
        nodes = [helper.make_node("Add", ["x", "x"], ["double"]), helper.make_node("Identity", ["x"], ["same"])]
        graph = helper.make_graph(nodes, "doubles", [x], [double, same])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
                  tmp_path / "1" / file)  # fmt: skip
        model = TritonPythonModel()
        model.initialize(triton.args(
            tmp_path, parameters, instance_group=[{"count": count}], optimization={},
            output=[{"name": name} for name in outputs], **config,
        ))  # fmt: skip
        return model

    return make


def ask(triton, model, **inputs):
    (response,) = model.execute([triton.Request(inputs, [])])
    return response


X = np.float32([[1, 2], [3, 4]])


def test_the_outputs_of_the_config_are_answered(open_model, triton):
    found = ask(triton, open_model(), x=X).tensors
    assert {name: value.tolist() for name, value in found.items()} == {"double": (2 * X).tolist(), "same": X.tolist()}
    assert list(ask(triton, open_model(outputs=("same",)), x=X).tensors) == ["same"]


def test_the_file_may_have_another_name(open_model, triton):
    model = open_model("other.onnx", default_model_filename="other.onnx")
    assert ask(triton, model, x=X).tensors["same"].tolist() == X.tolist()


def test_what_the_graph_does_not_take_is_an_error_without_its_inside(open_model, triton):
    assert ask(triton, open_model(), y=X).error().message() == "[internal] The model failed on this input."
    assert ask(triton, open_model(), x=X).tensors["same"].tolist() == X.tolist()


@pytest.fixture
def opened(monkeypatch):
    """The options of every session that is opened."""
    made = []

    def record(parameters, level="0"):
        made.append(dict(parameters))
        return session_options(parameters, level)

    monkeypatch.setattr(onnxruntime_backend, "session_options", record)
    return made


def test_a_small_graph_with_siblings_has_a_session_for_busy_times(open_model, opened):
    model = open_model()
    assert model.sessions[True] is not model.sessions[False]
    assert [options["intra_op_thread_count"] for options in opened] == ["2", "1"]
    assert opened[0]["session.force_spinning_stop"] == "1" and "session.force_spinning_stop" not in opened[1]


def test_both_sessions_take_their_activations_from_one_arena(tmp_path):
    """In a process of its own: what a session took of its arena stays there, so the second needs next to nothing."""
    (tmp_path / "1").mkdir()
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 2]) for name in "xy")
    tiles = helper.make_tensor("tiles", TensorProto.INT64, [2], [1, 8_000_000])
    nodes = [
        helper.make_node("Tile", ["x", "tiles"], ["wide"]), helper.make_node("Sqrt", ["wide"], ["root"]),
        helper.make_node("Slice", ["root", "begin", "end", "axis"], ["y"]),
    ]  # fmt: skip
    places = {"begin": 0, "end": 2, "axis": 1}
    numbers = [helper.make_tensor(name, TensorProto.INT64, [1], [value]) for name, value in places.items()]
    graph = helper.make_graph(nodes, "wide", [x], [y], [tiles, *numbers])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
              tmp_path / "1" / "model.onnx")  # fmt: skip
    program = f"""
import numpy as np
from tritonvision.python_backend.onnxruntime_backend import TritonPythonModel

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

model = TritonPythonModel()
model.config = {{"optimization": {{}}, "output": [{{"name": "y"}}], "instance_group": [{{"count": 2}}]}}
model.setup({PARAMETERS}, {{
    "model_repository": {str(tmp_path)!r}, "model_version": "1", "model_instance_kind": "CPU", "model_name": "net",
    "model_instance_name": "net_0_0",
}})
began = resident()
for alone in (True, False):
    model.sessions[alone].run(["y"], {{"x": np.ones((1, 2), np.float32)}})
    print(resident() - began)
"""
    program = "import sys, types; sys.modules['triton_python_backend_utils'] = types.ModuleType('pb')\n" + program
    first, both = map(float, subprocess.check_output([sys.executable, "-c", program], text=True).split())
    assert 100 < first and both < 1.3 * first


def test_a_busy_sibling_decides_which_session_runs(open_model, triton):
    class Fixed:
        def __init__(self, name):
            self.name = name

        def run(self, names, tensors, options):
            return [np.array([[self.name]], dtype=object)]

    class Alone:
        def __enter__(self):
            return self.value

        def __exit__(self, *_):
            pass

    model = open_model(outputs=("same",))
    model.sessions, model.siblings = {True: Fixed(b"all threads"), False: Fixed(b"one thread")}, Alone()
    for model.siblings.value, name in ((True, b"all threads"), (False, b"one thread")):
        assert ask(triton, model, x=X).tensors["same"][0, 0] == name


@pytest.mark.parametrize("changed", [{"count": 1}, {"parameters": {**PARAMETERS, "intra_op_thread_count": "1"}}])
def test_alone_or_with_one_thread_there_is_one_session(open_model, opened, changed):
    model = open_model(**changed)
    assert model.sessions[True] is model.sessions[False] and len(opened) == 1


def test_a_large_graph_is_not_opened_twice(open_model, opened, monkeypatch):
    monkeypatch.setattr(onnxruntime_backend, "_SMALL_GRAPH", 10)
    open_model()
    assert len(opened) == 1


def test_names_of_the_native_backend_are_options_of_the_session():
    options = session_options({**PARAMETERS, "execution_mode": "1", "other": "x"}, "2")
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    plain = session_options({})
    assert plain.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert plain.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL


def test_memory_goes_back_after_a_run_where_the_config_says_so(open_model, triton):
    name = "memory.enable_memory_arena_shrinkage"
    assert run_options({}) is None
    assert run_options({name: "cpu:0"}).get_run_config_entry(name) == "cpu:0"
    model = open_model(parameters={**PARAMETERS, name: "cpu:0"})
    assert model.run_options is not None and ask(triton, model, x=X).tensors["same"].tolist() == X.tolist()


def test_a_config_is_left_as_it_is():
    assert TritonPythonModel.auto_complete_config("config") == "config"
