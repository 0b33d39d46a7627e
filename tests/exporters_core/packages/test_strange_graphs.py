"""ONNX files that cannot be served: each is one sentence and a hint, and nothing is published."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tritonvision.errors import ExportFailed
from tritonvision.exporters.packages import import_package
from tritonvision.exporters.packages.options import FileOptions

GRAPH = """<ir_version: 8, opset_import: ["": 17]>
    colours (float[N,3,32,32] images) => (float[N,2] scores) <float[3,2] weights = {9,0,0,9,3,5}>
    { mean = ReduceMean<axes=[2,3], keepdims=0>(images)  scores = MatMul(mean, weights) }"""
OPTIONS = FileOptions(("warm", "cold"), resize="stretch", normalize="0-1")


def of_another_domain(model):
    model.graph.node[0].domain = "somebody.else"
    model.opset_import.add(domain="somebody.else", version=1)


def too_old(model):
    model.opset_import[0].version = 9


def too_new(model):
    model.opset_import[0].version = 99


def two_inputs(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def nan(model):
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))


def infinite(model):
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[1] = np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))


CASES = {
    of_another_domain: "not ONNX's own: ReduceMean of 'somebody.else'", too_old: "is of ONNX opset 9",
    too_new: "is of ONNX opset 99", two_inputs: "does not have one input", nan: "answers NaN or infinity",
    infinite: "answers NaN or infinity",
}  # fmt: skip


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_a_strange_graph_is_one_sentence_and_a_hint(tmp_path, change):
    model = onnx.parser.parse_model(GRAPH)
    change(model)
    onnx.save(model, tmp_path / "best.onnx")
    with pytest.raises(ExportFailed) as caught:
        import_package(tmp_path / "best.onnx", "mine/1", tmp_path / "repository", options=OPTIONS)
    assert CASES[change] in caught.value.message and "\n" not in caught.value.message and caught.value.hint
    assert not (tmp_path / "repository").exists() or not list((tmp_path / "repository").iterdir())


@pytest.mark.parametrize("data", [b"", b"x\n", b"ptrt"])
def test_a_file_of_another_format_is_no_graph_of_an_old_opset(tmp_path, data):
    (tmp_path / "best.engine").write_bytes(data)
    with pytest.raises(ExportFailed, match="best.engine is not a valid ONNX graph"):
        import_package(tmp_path / "best.engine", "mine/1", tmp_path / "repository", options=OPTIONS)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_half_a_file_is_one_sentence(tmp_path, share):
    model = onnx.parser.parse_model(GRAPH)
    data = model.SerializeToString()
    (tmp_path / "best.onnx").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ExportFailed, match="best.onnx is not a valid ONNX graph"):
        import_package(tmp_path / "best.onnx", "mine/1", tmp_path / "repository", options=OPTIONS)


@pytest.mark.parametrize("raw", ["", "scores = Identity(logits)"])
def test_scores_of_a_detector_that_are_no_scores_are_refused(tmp_path, raw):
    """A threshold over logits would mean nothing, and no comparison with the graph itself would show it."""
    scores = raw or "scores = Sigmoid(logits)"
    model = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17]>
        yolo (float[N,3,32,32] images) => (float[N,6,21] rows) <int64[3] by = {{-1, 2, 21}}> {{
            mean = ReduceMean<axes=[2,3], keepdims=0>(images)
            wide = MatMul(mean, weights)  logits = Reshape(wide, by)  {scores}
            boxes = Concat<axis=1>(scores, scores)  rows = Concat<axis=1>(boxes, scores) }}""")
    weights = np.random.default_rng(0).normal(0, 9, (3, 42)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    onnx.save(model, tmp_path / "best.onnx")
    options = FileOptions(("warm", "cold"))
    if not raw:
        assert import_package(tmp_path / "best.onnx", "mine/1", tmp_path / "repository", options=options)[1]
        return
    with pytest.raises(ExportFailed, match=r"The class scores of best.onnx reach from -[\d.]+ to [\d.]+") as caught:
        import_package(tmp_path / "best.onnx", "mine/1", tmp_path / "repository", options=options)
    assert "sigmoid" in caught.value.hint
