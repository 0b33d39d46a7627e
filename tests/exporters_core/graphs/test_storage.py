"""A graph stays whole wherever it is moved, with its weights in it or beside it, and all of it counts."""

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonvision.exporters.graphs import storage


@pytest.fixture(params=["inside", "beside"])
def graph(request, tmp_path):
    """``y = x @ w`` with 64 x 64 weights."""
    weights = np.arange(64 * 64, dtype=np.float32).reshape(64, 64)
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 64])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "encoder.onnx"
    if request.param == "inside":
        onnx.save(model, path)
    else:
        onnx.save(
            model, path, save_as_external_data=True, location=storage.data_file(path).name, size_threshold=0,
            convert_attribute=False,
        )  # fmt: skip
    return path


def test_all_files_of_a_graph_count(graph):
    written = sorted(graph.parent.iterdir())
    assert sorted(storage.files_of(graph)) == written and storage.files_of(graph)[0] == graph
    assert storage.size(graph) == sum(path.stat().st_size for path in written) > 64 * 64 * 4


def test_the_digest_is_of_every_byte(graph):
    before = storage.digest([graph])
    assert before == hashlib.sha256(b"".join(path.read_bytes() for path in storage.files_of(graph))).hexdigest()
    last = storage.files_of(graph)[-1]
    last.write_bytes(last.read_bytes()[:-1] + b"!")
    assert storage.digest([graph]) != before


def test_a_moved_graph_computes_what_it_did(graph, tmp_path):
    x = {"x": np.ones((1, 64), np.float32)}
    (before,) = onnxruntime.InferenceSession(graph).run(None, x)
    root = tmp_path / "repository"
    (root / "net--a" / "1").mkdir(parents=True)
    places = storage.digests(graph, "net--a/1/model.onnx")
    storage.move(graph, root, "net--a/1/model.onnx")
    assert sorted(places) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    for place, published in places.items():
        assert hashlib.sha256((root / place).read_bytes()).hexdigest() == published
    (after,) = onnxruntime.InferenceSession(root / "net--a" / "1" / "model.onnx").run(None, x)
    np.testing.assert_array_equal(after, before)
