"""A graph stays whole wherever it is moved, with its weights in it or beside it, and all of it counts."""

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonvision import graph_files
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
    path = tmp_path / "model.onnx"
    if request.param == "inside":
        onnx.save(model, path)
    else:
        onnx.save(
            model, path, save_as_external_data=True, location=graph_files.data_file(path).name, size_threshold=0,
            convert_attribute=False,
        )  # fmt: skip
    return path


def test_all_files_of_a_graph_count(graph):
    written = sorted(graph.parent.iterdir())
    assert sorted(graph_files.files_of(graph)) == written and graph_files.files_of(graph)[0] == graph
    assert graph_files.size(graph) == sum(path.stat().st_size for path in written) > 64 * 64 * 4


def test_the_digest_is_of_every_byte(graph):
    before = storage.digest([graph])
    assert before == hashlib.sha256(b"".join(path.read_bytes() for path in graph_files.files_of(graph))).hexdigest()
    last = graph_files.files_of(graph)[-1]
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


def test_only_a_graph_that_is_one_file_gets_another_name(graph, tmp_path):
    (tmp_path / "1").mkdir()
    if len(graph_files.files_of(graph)) == 1:
        storage.move(graph, tmp_path, "1/encoder.onnx")
        assert (tmp_path / "1" / "encoder.onnx").is_file()
    else:
        with pytest.raises(ValueError, match="'model.onnx' cannot become 'encoder.onnx'"):
            storage.move(graph, tmp_path, "1/encoder.onnx")
        assert graph.is_file()


def test_what_is_saved_beside_the_graph_computes_the_same(graph, tmp_path):
    x = {"x": np.ones((1, 64), np.float32)}
    (before,) = onnxruntime.InferenceSession(graph).run(None, x)
    saved = tmp_path / "saved" / "model.onnx"
    saved.parent.mkdir()
    for inside, count in ((64 * 64 * 4 + 1, 1), (64 * 64 * 4, 2)):
        storage.save(onnx.load(graph), saved, inside)
        assert len(graph_files.files_of(saved)) == count
        onnx.checker.check_model(saved, full_check=True)
        np.testing.assert_array_equal(onnxruntime.InferenceSession(saved).run(None, x)[0], before)
    (tensor,) = onnx.load(saved, load_external_data=False).graph.initializer
    told = {entry.key: entry.value for entry in tensor.external_data}
    assert told == {"location": "model.onnx.data", "offset": "0", "length": str(64 * 64 * 4)}


def test_weights_beside_a_graph_are_asked_for_one_at_a_time_and_begin_at_pages(tmp_path):
    """Of the ones that were written, none is held: a generator may make the next in the memory of the last."""
    names = ["a", "b"]
    body = helper.make_graph(
        [helper.make_node("Sum", ["x", *names], ["y"])], "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", *names)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])],
    )  # fmt: skip
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    memory = np.zeros(3, np.float32)

    def weights():
        for number, name in enumerate(names, 1):
            memory[:] = number
            yield name, memory

    path = tmp_path / "model.onnx"
    storage.write(model, path, weights(), beside=True)
    (y,) = onnxruntime.InferenceSession(path).run(None, {"x": np.zeros(3, np.float32)})
    assert y.tolist() == [3, 3, 3] and graph_files.data_file(path).stat().st_size == 4096 + 12
