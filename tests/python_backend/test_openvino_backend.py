"""OpenVINO as a Triton backend: a config of the native backend means the same here, or is refused in a sentence."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tritonvision.machine import why_not
from tritonvision.python_backend.openvino_backend import TritonPythonModel, properties_of
from tritonvision.python_backend.runtime import engines

X = np.float32([[1, 2], [3, 4]])


@pytest.fixture
def open_model(triton, tmp_path):
    """``double`` = x + x and ``same`` = x of float32 ``[B,N]``."""

    def make(parameters=None, file="model.onnx", outputs=("double", "same"), given="x"):
        (tmp_path / "1").mkdir(exist_ok=True)
        names = ("x", "double", "same")
        x, double, same = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", "N"]) for name in names)
        nodes = [helper.make_node("Add", ["x", "x"], ["double"]), helper.make_node("Identity", ["x"], ["same"])]
        graph = helper.make_graph(nodes, "doubles", [x], [double, same])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9),
                  tmp_path / "1" / "model.onnx")  # fmt: skip
        model = TritonPythonModel()
        model.initialize(triton.args(
            tmp_path, parameters or {}, max_batch_size=8, default_model_filename=file,
            input=[{"name": given, "dims": ["2"]}], output=[{"name": name} for name in outputs],
        ))  # fmt: skip
        return model

    return make


def ask(triton, model, **inputs):
    (response,) = model.execute([triton.Request(inputs, [])])
    return response


def test_the_outputs_of_the_config_are_answered_for_any_batch(open_model, triton):
    found = ask(triton, open_model(), x=X).tensors
    assert {name: value.tolist() for name, value in found.items()} == {"double": (2 * X).tolist(), "same": X.tolist()}
    model = open_model(outputs=("same",))
    assert [list(ask(triton, model, x=x).tensors) for x in (X, X[:1])] == [["same"]] * 2


def test_every_request_of_an_execution_has_an_answer_of_its_own(open_model, triton):
    responses = open_model().execute([triton.Request({"x": X + n}, []) for n in range(3)])
    assert [response.tensors["same"].tolist() for response in responses] == [(X + n).tolist() for n in range(3)]


def test_what_the_network_does_not_take_is_an_error_without_its_inside(open_model, triton):
    model = open_model()
    assert ask(triton, model, y=X).error().message() == "[internal] The model failed on this input."
    assert ask(triton, model, x=X * np.nan).error().message().startswith("[broken_model] The model answered what is no")
    assert ask(triton, model, x=X).tensors["same"].tolist() == X.tolist()


def test_the_shapes_of_the_config_replace_those_of_the_file_where_it_says_so(open_model, triton):
    wide = np.ones((1, 3), np.float32)
    assert ask(triton, open_model(), x=wide).tensors["same"].shape == (1, 3)
    model = open_model({"RESHAPE_IO_LAYERS": "yes"})
    assert ask(triton, model, x=wide).has_error()
    assert ask(triton, model, x=X).tensors["same"].tolist() == X.tolist()


def test_names_of_the_native_backend_are_openvinos_properties():
    assert properties_of({}) == {"INFERENCE_PRECISION_HINT": "f32"}
    assert properties_of({
        "INFERENCE_NUM_THREADS": "2", "COMPILATION_NUM_THREADS": "1", "NUM_STREAMS": "auto", "HINT_BF16": "yes",
        "PERFORMANCE_HINT": "latency", "SKIP_OV_DYNAMIC_BATCHSIZE": "YES", "TARGET_DEVICE": "cpu", "generation": "3",
    }) == {
        "INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 2, "NUM_STREAMS": "AUTO",
        "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip


@pytest.mark.parametrize("parameters", [
    {"NUM_STREAMS": "AUTO"}, {"NUM_STREAMS": "NUMA"}, {"NUM_STREAMS": "2", "INFERENCE_NUM_THREADS": "2"},
    {"PERFORMANCE_HINT": "CUMULATIVE_THROUGHPUT"}, {"COMPILATION_NUM_THREADS": "1"}, {"INFERENCE_NUM_THREADS": "0"},
])  # fmt: skip
def test_openvino_takes_what_the_names_become(open_model, triton, parameters):
    assert ask(triton, open_model(parameters), x=X).tensors["same"].tolist() == X.tolist()


@pytest.mark.parametrize(("name", "value", "sentence"), [
    ("INFERENCE_NUM_THREADS", "-1", "'INFERENCE_NUM_THREADS' must be a non-negative number, not '-1'."),
    ("COMPILATION_NUM_THREADS", "two", "must be a non-negative number, not 'TWO'."),
    ("NUM_STREAMS", "many", "must be AUTO, NUMA or a number, not 'MANY'."),
    ("HINT_BF16", "NO", "must be YES, not 'NO'."),
    ("PERFORMANCE_HINT", "SPEED", "must be LATENCY, THROUGHPUT, CUMULATIVE_THROUGHPUT, not 'SPEED'."),
    ("TARGET_DEVICE", "GPU", "The parameter 'TARGET_DEVICE' of the native OpenVINO backend is not supported here."),
    ("ENABLE_BATCH_PADDING", "YES", "'ENABLE_BATCH_PADDING' of the native OpenVINO backend is not supported here."),
    ("CPU_EXTENSION_PATH", "/lib/x.so", "'CPU_EXTENSION_PATH' of the native OpenVINO backend is not supported here."),
])  # fmt: skip
def test_a_parameter_that_cannot_be_honoured_is_a_sentence_to_whoever_loads_the_model(
    open_model, triton, name, value, sentence
):
    with pytest.raises(triton.TritonModelException, match=re.escape(sentence)) as caught:
        open_model({name: value})
    assert str(caught.value).startswith("[invalid_parameter] ")


@pytest.mark.parametrize("file", ["missing.onnx", "", "broken.xml"])
def test_a_file_that_is_no_network_is_a_sentence(open_model, triton, tmp_path, file):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "broken.xml").write_text("<net>")
    with pytest.raises(triton.TritonModelException, match=r"^\[broken_model\] OpenVINO cannot read the network\.$"):
        open_model(file=file)


def test_a_machine_without_the_package_or_the_instructions_says_so(open_model, triton, monkeypatch):
    sentence = "The processor (an old one) does not compute in bf16."
    monkeypatch.setattr(engines, "why_not", lambda engine, precision: sentence if precision == "bf16" else "")
    open_model()
    with pytest.raises(triton.TritonModelException, match=re.escape(f"[setup] {sentence}")):
        open_model({"HINT_BF16": "YES"})


@pytest.mark.skipif(bool(why_not("openvino", "bf16")), reason="this processor does not compute in bf16")
def test_bf16_is_what_the_config_asks_for_and_never_the_default(open_model):
    precisions = [
        str(open_model(parameters).session.properties["INFERENCE_PRECISION_HINT"])
        for parameters in ({}, {"HINT_BF16": "YES"})
    ]
    assert precisions == ["<Type: 'float32'>", "<Type: 'bfloat16'>"]


def test_a_config_is_left_as_it_is():
    assert TritonPythonModel.auto_complete_config("config") == "config"


def test_shapes_of_what_a_network_does_not_take_are_a_sentence(open_model, triton):
    with pytest.raises(triton.TritonModelException, match=r"^\[broken_model\] OpenVINO cannot run the network\.$"):
        open_model({"RESHAPE_IO_LAYERS": "YES"}, given="z")
