"""Weights in 8 and 4 bits: which products have them, how exact they are, and what the file says."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonvision.exporters.precision import weights
from tritonvision.python_backend.runtime.onnxruntime_session import open_session

WIDTH, WIDE = 64, 96


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Two products with weights, and one of two computed tensors between them."""
    rng = np.random.default_rng(0)
    kernels = {"a": rng.normal(size=(WIDTH, WIDE)), "b": rng.normal(size=(WIDTH, WIDTH))}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["wide"], name="first"),
        helper.make_node("MatMul", ["x", "x_turned"], ["scores"], name="attention"),
        helper.make_node("Transpose", ["x"], ["x_turned"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "b"], ["y"], name="last"),
    ]
    model = helper.make_model(
        helper.make_graph(
            [nodes[0], nodes[2], nodes[1], nodes[3]], "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in ("wide", "scores", "y")],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in kernels.items()],
        ), opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("graph") / "decoder.onnx"
    onnx.save(model, path)
    return path


def run(path, precision="fp32"):
    given = np.random.default_rng(1).normal(size=(5, WIDTH)).astype(np.float32)
    return open_session(path, precision).run(["wide", "scores", "y"], {"x": given})


def kinds(path):
    return {node.name.removesuffix("_Q8").removesuffix("_Q4"): node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize(("precision", "apart"), [("int8", 0.02), ("int4", 0.2)])
def test_products_with_weights_have_them_in_fewer_bits_and_compute_about_the_same(graph, tmp_path, precision, apart):
    target = tmp_path / f"decoder.onnxruntime-{precision}.onnx"
    assert weights.write(graph, target, precision) == ["first", "last"]
    assert sorted(kinds(target).values()) == ["MatMul", "MatMulNBits", "MatMulNBits", "Transpose"]
    assert target.stat().st_size < graph.stat().st_size * (0.45 if precision == "int8" else 0.3)
    wide, scores, last = run(target, precision)
    exact = run(graph)
    np.testing.assert_array_equal(scores, exact[1])
    for got, wanted in ((wide, exact[0]), (last, exact[2])):
        distance = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        assert 0 < distance < apart


def test_what_is_kept_stays_as_it_was(graph, tmp_path):
    target = tmp_path / "decoder.onnxruntime-int8.onnx"
    assert weights.write(graph, target, "int8", ["last"]) == ["first"]
    np.testing.assert_array_equal(run(target, "int8")[2], run(graph)[2])


def test_no_other_precision_is_opened(graph):
    from tritonvision.errors import SetupError

    assert isinstance(open_session(graph), onnxruntime.InferenceSession)
    with pytest.raises(SetupError, match="bf16"):
        open_session(graph, "bf16")
