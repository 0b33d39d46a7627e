"""One ONNX graph in bf16 as OpenVINO's own files, in which each operation has the type that it computes in."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.errors import ExportFailed

if TYPE_CHECKING:
    import openvino

_WITHOUT = "/WithoutBiases"  # OpenVINO's word for a layer whose bias it made an operation of its own
_PRODUCTS = {
    "Convolution", "ConvolutionBackpropData", "GroupConvolution", "GroupConvolutionBackpropData", "MatMul",
}  # fmt: skip
# What computes as well in bf16 and answers in the type of what it reads.
_FIT = _PRODUCTS | {
    "Add", "AvgPool", "Clamp", "Concat", "Divide", "Erf", "Gather", "Gelu", "HardSigmoid", "HSigmoid", "HSwish",
    "Interpolate", "MaxPool", "Multiply", "MVN", "Pad", "Power", "PRelu", "ReduceMean", "Relu", "Reshape", "Sigmoid",
    "Slice", "Softmax", "Split", "Sqrt", "Squeeze", "StridedSlice", "Subtract", "Swish", "Tanh", "Transpose",
    "Unsqueeze", "VariadicSplit",
}  # fmt: skip
# Of these, what takes the time, and what only arranges values: the least that is worth computing in bf16.
_HEAVY = _PRODUCTS | {"Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_FIRST_INPUT = {"Interpolate"}  # whose further inputs of floats are no values but scales
# What turns a small difference into another answer: an angle, a place to read at, an order, a choice.
_SENSITIVE = {
    "Result", "Sin", "Cos", "GridSample", "TopK", "ReduceMax", "Greater", "GreaterEqual", "Less", "LessEqual",
    "ArgMax", "NonMaxSuppression",
}  # fmt: skip
# Of networks of any batch OpenVINO's CPU plugin (2026.4) cuts values off where it should round them, every other one.
# They become smaller by this share on average, so they are made as much larger before: else sums over thousands of
# values are all off the same way. What is a number of bf16 stays that number.
_CUT_OFF = 2**-9 * math.log(2)
_LARGEST = np.array([0x7F7F0000], np.uint32).view(np.float32)[0]  # of bf16


def bf16(
    graph: Path, target: Path, kept_fp32: Collection[str] = (), products_only: bool = False
) -> tuple[str, ...]:  # fmt: skip
    """Write the graph with types: bf16 where it may be, and fp32 in the layers that are named.

    Fp32 in any case stays what comes before the first weights, as the normalising of pixels, where a rounded value less
    a mean has lost most of its digits; and what follows the last weights on the way to an answer, to an angle, to
    coordinates or to a choice of the best, those weights included. Weights of the layers in bf16 are stored so, which
    halves the file.

    Args:
        graph: an ONNX file in fp32.
        target: the ``.xml`` to write; its ``.bin`` goes beside it.
        kept_fp32: names of layers to leave as they are, out of what this returns.
        products_only: whether only convolutions and matrix products compute in bf16: sums over a whole network, as the
            residual ones of transformers, then lose nothing.

    Returns:
        Names of the layers that compute in bf16, in the order of the graph.

    Raises:
        ExportFailed: OpenVINO cannot read this graph.
        ModuleNotFoundError: ``openvino`` is not installed.
    """
    import openvino

    try:
        model = openvino.Core().read_model(graph)
    except RuntimeError as error:
        raise ExportFailed("OpenVINO cannot read this network.") from error
    ops = model.get_ordered_ops()
    exact = _before_what_is_sensitive(ops) | _before_the_weights(ops)
    layers = {
        name: layer
        for name, layer in _layers(ops, _HEAVY if products_only else _FIT).items()
        if name not in exact and layer not in kept_fp32
    }  # fmt: skip
    _Types(layers).write(ops)
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, target, compress_to_fp16=False)
    return tuple(dict.fromkeys(layers.values()))


def is_transformer(graph: Path) -> bool:
    """Whether a network has more matrix products than convolutions: there sums over all of it are what must be exact,
    while behind a convolution a step in fp32 costs most of what bf16 gains.
    """
    import openvino

    found = [op.get_type_name() for op in openvino.Core().read_model(graph).get_ops()]
    return found.count("MatMul") > sum(map(found.count, _PRODUCTS - {"MatMul"}))


def _layers(ops: Sequence[openvino.Node], fit: Collection[str]) -> dict[str, str]:
    """The layer, by its name in the ONNX graph, of each operation of a type in ``fit``, by the operation's name, in
    order.

    An operation that OpenVINO made of a part of a layer has a number for a name, which is another one the next time: it
    belongs to the layer that reads it, and where none does, it stays in fp32.
    """
    owners: dict[str, str] = {}
    for op in reversed(ops):
        name = op.get_friendly_name()
        if name != op.get_name():
            owners[name] = name.removesuffix(_WITHOUT)
            continue
        readers = (port.get_node().get_friendly_name() for out in op.outputs() for port in out.get_target_inputs())
        owner = next((owners[reader] for reader in readers if reader in owners), None)
        if owner is not None:
            owners[name] = owner
    return {
        op.get_friendly_name(): owners[op.get_friendly_name()]
        for op in ops
        if op.get_type_name() in fit and op.get_friendly_name() in owners and _is_float(op.output(0))
    }


def _before_what_is_sensitive(ops: Sequence[openvino.Node]) -> set[str]:
    """Names of the operations between the last weights and each sensitive operation, with those weights."""
    found: set[str] = set()
    waiting = [op for op in ops if op.get_type_name() in _SENSITIVE]
    while waiting:
        for source in waiting.pop().input_values():
            op = source.get_node()
            if op.get_friendly_name() in found or not _is_float(source):
                continue
            found.add(op.get_friendly_name())
            if op.get_type_name() not in _PRODUCTS:
                waiting.append(op)
    return found


def _before_the_weights(ops: Sequence[openvino.Node]) -> set[str]:
    """Names of the operations between the inputs and the first weights."""
    reached: set[str] = set()  # by an input
    behind: set[str] = set()  # weights
    for op in ops:
        name = op.get_friendly_name()
        sources = {source.get_node().get_friendly_name() for source in op.input_values()}
        if op.get_type_name() == "Parameter" or sources & reached:
            reached.add(name)
        if op.get_type_name() in _PRODUCTS or _looks_up(op) or sources & behind:
            behind.add(name)
    return reached - behind


def _looks_up(op: openvino.Node) -> bool:
    """Whether an operation reads rows of a table of weights."""
    return op.get_type_name() == "Gather" and op.input_value(0).get_node().get_type_name() == "Constant"


def _is_float(value: openvino.Output) -> bool:
    return value.get_element_type().get_type_name() == "f32"


class _Types:
    """Conversions between what computes in bf16 and what does not, one for each value that needs it.

    Args:
        low: names of the operations in bf16.
    """

    def __init__(self, low: Collection[str]):
        self._low = low
        self._converted: dict[tuple[str, int, bool], openvino.Node] = {}

    def write(self, ops: Sequence[openvino.Node]) -> None:
        """Let each operation read values of its own type."""
        for op in ops:
            low = op.get_friendly_name() in self._low
            for port in op.inputs()[: 1 if op.get_type_name() in _FIRST_INPUT else None]:
                source = port.get_source_output()
                if self._is_low(source) != low and (self._is_low(source) or _is_float(source)):
                    port.replace_source_output(self._as(source, low).output(0))
            if low:
                op.validate_and_infer_types()

    def _is_low(self, value: openvino.Output) -> bool:
        return value.get_node().get_friendly_name() in self._low

    def _as(self, value: openvino.Output, low: bool) -> openvino.Node:
        import openvino
        from openvino import opset13

        node = value.get_node()
        key = node.get_friendly_name(), value.get_index(), low
        if key not in self._converted:
            if low and node.get_type_name() == "Constant":
                self._converted[key] = _constant(node.data)
            elif low:
                larger = opset13.multiply(value, opset13.constant(np.float32(1 + _CUT_OFF)))
                self._converted[key] = opset13.convert(larger, openvino.Type.bf16)
            else:
                self._converted[key] = opset13.convert(value, openvino.Type.f32)
        return self._converted[key]


def _constant(values: np.ndarray) -> openvino.Node:
    """Numbers of fp32, rounded to bf16. Larger ones than there are, as in attention masks, become the largest."""
    import openvino

    bits = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)  # to the nearest, ties to even
    tensor = openvino.Tensor(openvino.Type.bf16, openvino.Shape(list(values.shape)))
    tensor.data.view(np.uint16)[...] = rounded  # numpy has no such numbers
    return openvino.op.Constant(tensor, shared_memory=False)
