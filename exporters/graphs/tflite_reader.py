"""TFLite files: read into a :class:`Graph`, and evaluated in numpy as the reference for conversions.

Only the operators of small float convolution networks are supported; others are refused, and the error names them. The
numbers of fields and operators are those of TensorFlow Lite's ``schema.fbs``, which never renumbers them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from flatbuffers import number_types
from flatbuffers.table import Table

from tritonvision.errors import ExportFailed

_OPERATORS = {
    0: "ADD", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 6: "DEQUANTIZE",
    17: "MAX_POOL_2D", 19: "RELU", 22: "RESHAPE", 34: "PAD",
}  # fmt: skip
_DTYPES = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}
_INT8, _INT32 = number_types.Int8Flags, number_types.Int32Flags
# operator -> option -> (field, type, default)
_CONV = {"padding": (0, _INT8, 0), "stride_w": (1, _INT32, 0), "stride_h": (2, _INT32, 0)}
_OPTIONS: dict[str, dict[str, tuple[int, type, int]]] = {
    "ADD": {"activation": (0, _INT8, 0)},
    "CONCATENATION": {"axis": (0, _INT32, 0), "activation": (1, _INT8, 0)},
    "CONV_2D": _CONV | {"activation": (3, _INT8, 0), "dilation_w": (4, _INT32, 1), "dilation_h": (5, _INT32, 1)},
    "DEPTHWISE_CONV_2D": _CONV | {
        "activation": (4, _INT8, 0), "dilation_w": (5, _INT32, 1), "dilation_h": (6, _INT32, 1),
    },
    "MAX_POOL_2D": _CONV | {"filter_w": (3, _INT32, 0), "filter_h": (4, _INT32, 0), "activation": (5, _INT8, 0)},
}  # fmt: skip
_SAME, _RELU = 0, 1


@dataclass(frozen=True)
class Operator:
    """One node: its kind, the tensors it reads and writes by number, and its options by name."""

    kind: str
    inputs: tuple[int, ...]
    output: int
    options: Mapping[str, int]

    @property
    def relu(self) -> bool:
        """Whether a ReLU is fused into the operator."""
        return self.kind == "RELU" or self.options.get("activation") == _RELU


@dataclass(frozen=True)
class Graph:
    """A network in execution order, layouts as TFLite has them: pictures NHWC, kernels OHWI (depthwise 1HWO).

    Attributes:
        constants: arrays by tensor number; half-precision weights are converted to float32.
        shapes: declared shapes by tensor number, batch 1.
        input: number of the only input tensor.
        outputs: tensor numbers by name.
    """

    operators: tuple[Operator, ...]
    constants: dict[int, np.ndarray]
    shapes: dict[int, tuple[int, ...]]
    input: int
    outputs: dict[str, int]


def read(data: bytes) -> Graph:
    """The first subgraph of a TFLite file. Raises ExportFailed for other files and for unsupported operators."""
    if data[4:8] != b"TFL3":
        raise ExportFailed("The file is not a TFLite model.")
    try:
        return _read(data)
    except (struct.error, LookupError, ValueError, TypeError) as error:
        raise ExportFailed("The TFLite file is damaged.") from error


def _read(data: bytes) -> Graph:
    model = Table(data, struct.unpack_from("<I", data)[0])
    # the code is in field 3; older files have one byte in field 0
    codes = [max(_number(t, 0, _INT8), _number(t, 3, _INT32)) for t in _tables(model, 1)]
    subgraph = _tables(model, 2)[0]
    buffers = _tables(model, 4)
    tensors = _tables(subgraph, 0)
    constants: dict[int, np.ndarray] = {}
    for number, tensor in enumerate(tensors):
        raw = _vector(buffers[_number(tensor, 2, number_types.Uint32Flags)], 0, np.dtype("u1"))
        if raw.size:
            dtype = _known(_DTYPES, _number(tensor, 1, _INT8), "data type")
            constants[number] = raw.view(dtype).reshape(_shape(tensor))
    operators = []
    for table in _tables(subgraph, 3):
        kind = _known(_OPERATORS, codes[_number(table, 0, number_types.Uint32Flags)], "operator")
        inputs = tuple(int(i) for i in _vector(table, 1, np.dtype("<i4")))
        output = int(_vector(table, 2, np.dtype("<i4"))[0])
        if kind == "DEQUANTIZE" and constants[inputs[0]].dtype == np.float16:
            constants[output] = constants[inputs[0]].astype(np.float32)
        else:
            operators.append(Operator(kind, inputs, output, _options(kind, table)))
    return Graph(
        operators=tuple(operators),
        constants=constants,
        shapes={number: _shape(tensor) for number, tensor in enumerate(tensors)},
        input=int(_vector(subgraph, 1, np.dtype("<i4"))[0]),
        outputs={_text(tensors[i], 3): int(i) for i in _vector(subgraph, 2, np.dtype("<i4"))},
    )


def _options(kind: str, operator: Table) -> dict[str, int]:
    fields = _OPTIONS.get(kind, {})
    offset = operator.Offset(_slot(4))
    table = Table(operator.Bytes, operator.Pos)
    if not offset or not fields:
        return {name: default for name, (_, _, default) in fields.items()}
    operator.Union(table, offset)
    options = {name: _number(table, *field) for name, field in fields.items()}
    if options.get("activation", 0) not in (0, _RELU):
        raise ExportFailed(f"The TFLite file fuses activation {options['activation']} into {kind}, which is not known.")
    return options


def _known(table: Mapping[int, object], code: int, what: str):
    if code not in table:
        raise ExportFailed(f"The TFLite file uses {what} {code}, which is not known.")
    return table[code]


def _slot(field: int) -> int:
    """Position of a field in a flatbuffer table's vtable, which starts with two lengths of two bytes each."""
    return 4 + 2 * field


def _number(table: Table, field: int, flags: type, default: int = 0) -> int:
    return int(table.GetSlot(_slot(field), default, flags))


def _vector(table: Table, field: int, dtype: np.dtype) -> np.ndarray:
    offset = table.Offset(_slot(field))
    if not offset:
        return np.empty(0, dtype)
    return np.frombuffer(table.Bytes, dtype, table.VectorLen(offset), table.Vector(offset))


def _tables(table: Table, field: int) -> list[Table]:
    offset = table.Offset(_slot(field))
    if not offset:
        return []
    start = table.Vector(offset)
    return [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]


def _shape(tensor: Table) -> tuple[int, ...]:
    return tuple(int(n) for n in _vector(tensor, 0, np.dtype("<i4")))


def _text(table: Table, field: int) -> str:
    return table.String(table.Offset(_slot(field)) + table.Pos).decode()


def same_padding(size: int, kernel: int, stride: int, dilation: int, padding: int) -> tuple[int, int]:
    """Zeros before and after one axis; SAME puts an odd one at the end (tensorflow/lite/kernels/padding.h)."""
    if padding != _SAME:
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def evaluate(graph: Graph, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Run ``graph`` on NHWC ``[B,H,W,C]`` float32 or float64, in that precision; outputs by name."""
    dtype = picture.dtype
    values = {n: c.astype(dtype) if c.dtype == np.float32 else c for n, c in graph.constants.items()}
    values[graph.input] = picture
    for operator in graph.operators:
        arguments = [values[i] for i in operator.inputs]
        result = _KERNELS[operator.kind](operator, graph.shapes[operator.output], *arguments)
        values[operator.output] = np.maximum(result, 0) if operator.relu else result
    return {name: values[number] for name, number in graph.outputs.items()}


def _windows(operator: Operator, x: np.ndarray, kernel_h: int, kernel_w: int, fill: float) -> np.ndarray:
    """Every patch under the kernel: ``[B, out_h, out_w, C, kernel_h, kernel_w]``."""
    o = operator.options
    down, across = o.get("dilation_h", 1), o.get("dilation_w", 1)
    rows = same_padding(x.shape[1], kernel_h, o["stride_h"], down, o["padding"])
    columns = same_padding(x.shape[2], kernel_w, o["stride_w"], across, o["padding"])
    x = np.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=fill)
    extent = ((kernel_h - 1) * down + 1, (kernel_w - 1) * across + 1)
    # numpy's own annotation allows one axis only
    patches = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(1, 2))  # type: ignore[call-overload]
    return patches[:, :: o["stride_h"], :: o["stride_w"], :, ::down, ::across]


def _conv(operator: Operator, shape: tuple[int, ...], x, kernel, bias) -> np.ndarray:
    _, kernel_h, kernel_w, _ = kernel.shape
    return np.tensordot(_windows(operator, x, kernel_h, kernel_w, 0), kernel, axes=((4, 5, 3), (1, 2, 3))) + bias


def _depthwise(operator: Operator, shape: tuple[int, ...], x, kernel, bias) -> np.ndarray:
    _, kernel_h, kernel_w, _ = kernel.shape
    patches = _windows(operator, x, kernel_h, kernel_w, 0)
    by_channel = kernel[0].reshape(kernel_h, kernel_w, x.shape[3], -1)
    result = np.einsum("byxchw,hwcm->byxcm", patches, by_channel)
    return result.reshape(*result.shape[:3], -1) + bias


def _max_pool(operator: Operator, shape: tuple[int, ...], x) -> np.ndarray:
    return _windows(operator, x, operator.options["filter_h"], operator.options["filter_w"], -np.inf).max(axis=(4, 5))


_KERNELS: dict[str, Callable[..., np.ndarray]] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _max_pool,
    "RELU": lambda operator, shape, x: x,
    "ADD": lambda operator, shape, a, b: a + b,
    "PAD": lambda operator, shape, x, amounts: np.pad(x, amounts),
    "RESHAPE": lambda operator, shape, x, *_: x.reshape(len(x), *shape[1:]),
    "CONCATENATION": lambda operator, shape, *parts: np.concatenate(parts, axis=operator.options["axis"]),
}
