"""Checks that an ONNX file is valid and that its inputs and outputs have the names, types and axes of their schema."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from tritonvision.ensembles.entry_points import Net
from tritonvision.errors import ExportFailed

_TYPES = {
    "FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8,
}  # fmt: skip


def check(path: Path, net: Net) -> None:
    """Check the graph at ``path`` with ONNX's own checker and against its contract.

    The contract: exactly the inputs and outputs of ``net``, each with a dynamic batch axis.

    Raises:
        ExportFailed: the sentence says what does not fit.
    """
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed(f"The ONNX checker refuses the graph: {str(error).splitlines()[0]}") from error
    except DecodeError as error:
        raise ExportFailed("The exported file is not an ONNX graph.") from error
    _compare("input", model.graph.input, {tensor.name: (tensor.dtype, tensor.dims) for tensor in net.inputs})
    _compare("output", model.graph.output, {tensor.name: (tensor.dtype, tensor.dims) for tensor in net.outputs})


def _compare(what: str, values, expected: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    names = {value.name for value in values}
    if names != set(expected):
        raise ExportFailed(f"The graph's {what}s are {sorted(names)}, not {sorted(expected)}.")
    for value in values:
        dtype, dims = expected[value.name]
        tensor = value.type.tensor_type
        axes = [axis.dim_value or -1 for axis in tensor.shape.dim]
        # an input declared as dynamic must be dynamic; an output declared as dynamic may have a fixed size
        fits = len(axes) == len(dims) + 1 and all(
            a in (d, -1) or (d == -1 and what == "output") for a, d in zip(axes[1:], dims, strict=False)
        )
        if tensor.elem_type != _TYPES[dtype] or not fits or axes[0] != -1:
            kind = TensorProto.DataType.Name(tensor.elem_type)
            raise ExportFailed(f"The graph's {what} '{value.name}' is {kind} {axes}, not {dtype} {[-1, *dims]}.")
