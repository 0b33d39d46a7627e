"""Whether an ONNX file is what the pipeline around it expects: valid, with the right names, types and axes."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from tritonvision.ensembles.heads import HeadKind
from tritonvision.ensembles.resize import Resize
from tritonvision.errors import ExportFailed

_TYPES = {"FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "UINT8": TensorProto.UINT8}


def check(path: Path, resize: Resize, head: HeadKind) -> None:
    """Check the graph at ``path`` with ONNX's own checker and against its contract.

    The contract: one input ``pixels`` uint8 ``[B,H,W,3]`` with a free batch axis, and for outputs exactly the canonical
    tensors of ``head``, with a free batch axis as well.

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
    _compare("input", model.graph.input, {"pixels": ("UINT8", (resize.height, resize.width, 3))})
    _compare("output", model.graph.output, {tensor.name: (tensor.dtype, tensor.dims) for tensor in head.tensors})


def _compare(what: str, values, expected: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    names = {value.name for value in values}
    if names != set(expected):
        raise ExportFailed(f"The graph's {what}s are {sorted(names)}, not {sorted(expected)}.")
    for value in values:
        dtype, dims = expected[value.name]
        tensor = value.type.tensor_type
        axes = [axis.dim_value or -1 for axis in tensor.shape.dim]
        fits = len(axes) == len(dims) + 1 and all(d in (-1, a) or a == -1 for a, d in zip(axes[1:], dims, strict=False))
        if tensor.elem_type != _TYPES[dtype] or not fits or axes[0] != -1:
            kind = TensorProto.DataType.Name(tensor.elem_type)
            raise ExportFailed(f"The graph's {what} '{value.name}' is {kind} {axes}, not {dtype} {[-1, *dims]}.")
