"""Casts before what only arranges pixels anew: the same numbers, in a graph that TensorRT takes."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from tritonvision.exporters.graphs import casts

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
CROPPED = """g (uint8[n,6,4,3] pixels) => (float[n,3,a,4] answer)
<int64[1] first = {1}, int64[1] last = {5}, int64[1] axis = {2}> {
  planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
  part = Slice(planes, first, last, axis)
  numbers = Cast<to = 1>(part)
  answer = Relu(numbers)
}"""
READ_TWICE = """g (uint8[n,6,4,3] pixels) => (float[n,3,6,4] answer, int64[4] shape) {
  planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
  shape = Shape(planes)
  answer = Cast<to = 1>(planes)
}"""
BYTES_OUT = """g (uint8[n,6,4,3] pixels) => (uint8[n,3,6,4] planes, float[n,3,6,4] answer) {
  planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
  answer = Cast<to = 1>(planes)
}"""
CAST_ALREADY = """g (uint8[n,6,4,3] pixels) => (float[n,3,6,4] answer) {
  numbers = Cast<to = 1>(pixels)
  answer = Transpose<perm = [0, 3, 1, 2]>(numbers)
}"""
FLOATS = """g (float[n,6,4,3] pixels) => (double[n,3,6,4] answer) {
  planes = Transpose<perm = [0, 3, 1, 2]>(pixels)
  answer = Cast<to = 11>(planes)
}"""
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 4, 3)).astype(np.uint8)


def answers(model):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": PIXELS})


def test_a_cast_is_moved_before_all_that_arranges_and_the_numbers_are_the_same():
    model = onnx.shape_inference.infer_shapes(parser.parse_model(HEAD + CROPPED))
    before = answers(model)
    assert casts.cast_first(model.graph) == 1
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Cast", "Transpose", "Slice", "Relu"]
    assert np.array_equal(before[0], answers(model)[0])
    assert casts.cast_first(model.graph) == 0  # nothing is left to be moved


@pytest.mark.parametrize("text", [READ_TWICE, BYTES_OUT, CAST_ALREADY, FLOATS])
def test_a_graph_whose_bytes_others_read_or_that_has_none_to_arrange_stays_as_it_is(text):
    model = parser.parse_model(HEAD + text)
    before = model.SerializeToString()
    assert casts.cast_first(model.graph) == 0
    assert model.SerializeToString() == before
