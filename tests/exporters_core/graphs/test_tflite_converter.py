"""TFLite to ONNX, held against the numpy evaluation of the very file."""

import collections

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tritonvision.exporters.graphs import tflite_converter, tflite_reader
from tritonvision.exporters.graphs.tflite_reader import Graph, Operator


def run(graph: Graph, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Convert ``graph`` and run it in onnxruntime."""
    builder = tflite_converter.Builder()
    names = tflite_converter.append(builder, graph, "picture")
    shape = ["batch", *pictures.shape[1:]]
    outputs = [
        helper.make_tensor_value_info(names[name], TensorProto.FLOAT, ["batch", *graph.shapes[number][1:]])
        for name, number in graph.outputs.items()
    ]
    model = builder.model("test", [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)], outputs)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(list(names.values()), {"picture": pictures}), strict=True))


def single(kind: str, options: dict[str, int], shape_in, shape_out, *constants: np.ndarray) -> Graph:
    """A graph of one operator."""
    numbers = range(2, 2 + len(constants))
    return Graph(
        operators=(Operator(kind, (0, *numbers), 1, options),),
        constants=dict(zip(numbers, constants, strict=True)),
        shapes={0: shape_in, 1: shape_out},
        input=0,
        outputs={"out": 1},
    )


def conv_options(stride_h=1, stride_w=1, padding=0, dilation_h=1, dilation_w=1, activation=0) -> dict[str, int]:
    return {
        "stride_h": stride_h, "stride_w": stride_w, "padding": padding, "dilation_h": dilation_h,
        "dilation_w": dilation_w, "activation": activation,
    }  # fmt: skip


def agree(graph: Graph, pictures: np.ndarray, shape_out) -> None:
    ours, reference = run(graph, pictures)["out"], tflite_reader.evaluate(graph, pictures.astype(np.float64))["out"]
    assert ours.shape == reference.shape == (len(pictures), *shape_out[1:])
    np.testing.assert_allclose(ours, reference, atol=2e-5)


@pytest.mark.parametrize(
    ("options", "size", "out"),
    [
        (conv_options(), (9, 7), (9, 7)),
        (conv_options(2, 2), (9, 8), (5, 4)),
        (conv_options(2, 1, padding=1), (9, 8), (4, 6)),
        (conv_options(1, 1, 0, 2, 1), (9, 8), (9, 8)),
        (conv_options(1, 2, 1, 1, 2, activation=1), (9, 9), (7, 3)),
    ],
)
def test_convolutions_keep_strides_padding_dilation_and_activation(options, size, out):
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(5, 3, 3, 4)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    pictures = rng.normal(size=(2, *size, 4)).astype(np.float32)
    shape_out = (1, *out, 5)
    agree(single("CONV_2D", options, (1, *size, 4), shape_out, kernel, bias), pictures, shape_out)


@pytest.mark.parametrize("multiplier", [1, 3])
def test_depthwise_convolutions_keep_channels_apart(multiplier):
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(1, 3, 5, 4 * multiplier)).astype(np.float32)
    bias = rng.normal(size=4 * multiplier).astype(np.float32)
    shape_out = (1, 4, 5, 4 * multiplier)
    graph = single("DEPTHWISE_CONV_2D", conv_options(2, 2), (1, 8, 9, 4), shape_out, kernel, bias)
    agree(graph, rng.normal(size=(3, 8, 9, 4)).astype(np.float32), shape_out)


def test_max_pooling_never_lets_padding_win():
    options = {"stride_h": 2, "stride_w": 2, "padding": 0, "filter_h": 3, "filter_w": 2, "activation": 0}
    pictures = -1 - np.random.default_rng(3).random((2, 7, 7, 3)).astype(np.float32)
    graph = single("MAX_POOL_2D", options, (1, 7, 7, 3), (1, 4, 4, 3))
    agree(graph, pictures, (1, 4, 4, 3))
    assert run(graph, pictures)["out"].max() < -1


def test_padding_and_reshaping_count_axes_as_tflite_does():
    pictures = np.random.default_rng(4).normal(size=(2, 4, 3, 5)).astype(np.float32)
    amounts = np.array([[0, 0], [1, 0], [0, 2], [0, 3]], dtype=np.int32)
    agree(single("PAD", {}, (1, 4, 3, 5), (1, 5, 5, 8), amounts), pictures, (1, 5, 5, 8))
    agree(single("RESHAPE", {}, (1, 4, 3, 5), (1, 12, 5)), pictures, (1, 12, 5))
    agree(single("RESHAPE", {}, (1, 4, 3, 5), (1, 2, 6, 5)), pictures, (1, 2, 6, 5))


def test_the_face_graph_holds_only_plain_operators(graph):
    kinds = collections.Counter(node.op_type for node in onnx.load(graph).graph.node)
    assert kinds["Conv"] == 37 and kinds["MaxPool"] == 3 and kinds["Relu"] == 17
    assert set(kinds) <= {
        "Cast", "Div", "Sub", "Transpose", "Conv", "Relu", "Add", "Pad", "MaxPool", "Reshape", "Concat", "Split", "Mul",
        "Squeeze", "Clip", "ReduceMin", "GreaterOrEqual", "Sigmoid", "Where", "Shape", "ConstantOfShape",
    }  # fmt: skip
    assert graph.stat().st_size < 500_000


def test_a_batch_answers_as_its_pictures_do_alone(pipeline):
    pixels = np.random.default_rng(5).integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    together = pipeline.tensors({"pixels": pixels})
    for i in range(3):
        for name, value in pipeline.tensors({"pixels": pixels[i : i + 1]}).items():
            np.testing.assert_allclose(together[name][i], value[0], atol=1e-4)
