"""TFLite to ONNX: pictures are transposed to NCHW, the batch becomes dynamic, SAME padding becomes explicit pads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tritonvision.exporters.graphs.tflite_reader import Graph, Operator, same_padding

OPSET, IR_VERSION = 17, 8  # supported by every onnxruntime since 1.12 and by TensorRT 8.6 and later

_NHWC_TO_NCHW = (0, 3, 1, 2)
_NCHW_TO_NHWC = (0, 2, 3, 1)


@dataclass
class Builder:
    """Collects the nodes and constants of one ONNX graph."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, op: str, *inputs: str | np.ndarray | np.number, output: str | None = None, **attributes) -> str:
        """Append a node; arrays and numbers among ``inputs`` become constants. Returns the name of its output."""
        name = output or f"{op.lower()}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        self.nodes.append(helper.make_node(op, names, [name], name=f"n{len(self.nodes)}_{op}", **attributes))
        return name

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """``value`` cut along ``axis`` into pieces of ``sizes``."""
        names = [f"split_{len(self.nodes)}_{i}" for i in range(len(sizes))]
        inputs = [value, self.constant(np.asarray(sizes, dtype=np.int64))]
        self.nodes.append(helper.make_node("Split", inputs, names, name=f"n{len(self.nodes)}_Split", axis=axis))
        return names

    def constant(self, value: np.ndarray | np.number) -> str:
        """Append an initializer and return its name."""
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished model."""
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.initializers)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="tritonvision")


def append(builder: Builder, graph: Graph, picture: str) -> dict[str, str]:
    """Append the nodes of ``graph``.

    Args:
        picture: name of a float32 ``[B,H,W,C]`` value.

    Returns:
        ONNX names by the TFLite names of the outputs, in TFLite's layout.
    """
    values = {graph.input: builder.add("Transpose", picture, perm=_NHWC_TO_NCHW)}
    for operator in graph.operators:
        result = _CONVERTERS[operator.kind](builder, graph, operator, values)
        values[operator.output] = builder.add("Relu", result) if operator.relu else result
    return {name: _outside(builder, graph, number, values) for name, number in graph.outputs.items()}


def _outside(builder: Builder, graph: Graph, number: int, values: dict[int, str]) -> str:
    """A value in TFLite's layout: pictures transposed back to NHWC, others unchanged."""
    if len(graph.shapes[number]) != 4:
        return values[number]
    return builder.add("Transpose", values[number], perm=_NCHW_TO_NHWC)


def _windows(graph: Graph, operator: Operator, kernel_h: int, kernel_w: int) -> dict[str, Any]:
    """ONNX attributes of a sliding window; ``pads`` has all starts, then all ends."""
    o = operator.options
    _, height, width, _ = graph.shapes[operator.inputs[0]]
    dilations = [o.get("dilation_h", 1), o.get("dilation_w", 1)]
    top, bottom = same_padding(height, kernel_h, o["stride_h"], dilations[0], o["padding"])
    left, right = same_padding(width, kernel_w, o["stride_w"], dilations[1], o["padding"])
    return {
        "kernel_shape": [kernel_h, kernel_w], "strides": [o["stride_h"], o["stride_w"]],
        "dilations": dilations, "pads": [top, left, bottom, right],
    }  # fmt: skip


def _conv(builder: Builder, graph: Graph, operator: Operator, values: dict[int, str]) -> str:
    x, kernel, bias = operator.inputs
    weights = graph.constants[kernel].transpose(0, 3, 1, 2)  # OHWI -> OIHW
    window = _windows(graph, operator, *weights.shape[2:])
    return builder.add("Conv", values[x], weights, graph.constants[bias], **window)


def _depthwise(builder: Builder, graph: Graph, operator: Operator, values: dict[int, str]) -> str:
    x, kernel, bias = operator.inputs
    weights = graph.constants[kernel].transpose(3, 0, 1, 2)  # 1HWO -> O1HW
    window = _windows(graph, operator, *weights.shape[2:])
    return builder.add("Conv", values[x], weights, graph.constants[bias], group=graph.shapes[x][3], **window)


def _max_pool(builder: Builder, graph: Graph, operator: Operator, values: dict[int, str]) -> str:
    window = _windows(graph, operator, operator.options["filter_h"], operator.options["filter_w"])
    return builder.add("MaxPool", values[operator.inputs[0]], **window)


def _pad(builder: Builder, graph: Graph, operator: Operator, values: dict[int, str]) -> str:
    x, amounts = operator.inputs
    order = list(_NHWC_TO_NCHW) if len(graph.shapes[x]) == 4 else slice(None)
    pads = graph.constants[amounts][order].T.reshape(-1).astype(np.int64)
    return builder.add("Pad", values[x], pads)


def _reshape(builder: Builder, graph: Graph, operator: Operator, values: dict[int, str]) -> str:
    flat = _outside(builder, graph, operator.inputs[0], values)
    target = np.array([0, *graph.shapes[operator.output][1:]], dtype=np.int64)  # 0 keeps the batch
    shaped = builder.add("Reshape", flat, target)
    return builder.add("Transpose", shaped, perm=_NHWC_TO_NCHW) if len(target) == 4 else shaped


def _concatenation(builder: Builder, graph: Graph, operator: Operator, values: dict[int, str]) -> str:
    axis, rank = operator.options["axis"], len(graph.shapes[operator.output])
    axis = _NHWC_TO_NCHW.index(axis % 4) if rank == 4 else axis
    return builder.add("Concat", *(values[i] for i in operator.inputs), axis=axis)


_CONVERTERS: dict[str, Callable[[Builder, Graph, Operator, dict[int, str]], str]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _max_pool,
    "RELU": lambda builder, graph, operator, values: values[operator.inputs[0]],
    "ADD": lambda builder, graph, operator, values: builder.add("Add", *(values[i] for i in operator.inputs)),
    "PAD": _pad,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
}
