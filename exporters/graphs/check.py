"""Checks that an ONNX file is valid and that its inputs and outputs have the names, types and axes of their schema."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto

from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import ExportFailed
from tritonvision.exporters.graphs import wire

_TYPES = {
    "FP32": TensorProto.FLOAT, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64, "UINT8": TensorProto.UINT8,
}  # fmt: skip
_GRAPH = wire.number_of(ModelProto, "graph")
_INITIALIZER = wire.number_of(GraphProto, "initializer")
_WEIGHTS = wire.number_of(TensorProto, "raw_data")
_SMALL = 1024  # bytes up to which a constant stays where the checker looks: shapes are read from there


def check(path: Path, net: Net) -> None:
    """Check the graph at ``path`` with ONNX's own checker and against its contract.

    The contract: exactly the inputs and outputs of ``net``, each with a dynamic batch axis. The checker, which copies
    what it is given three times, gets the graph without its weights.

    Raises:
        ExportFailed: the sentence says what does not fit.
    """
    try:
        with _without_weights(path) as bare:
            onnx.checker.check_model(bare, full_check=True)
            model = onnx.load(bare, load_external_data=False)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed(f"The ONNX checker refuses the graph: {str(error).splitlines()[0]}") from error
    except DecodeError as error:
        raise ExportFailed("The exported file is not an ONNX graph.") from error
    _compare("input", model.graph.input, {tensor.name: tensor for tensor in net.inputs})
    _compare("output", model.graph.output, {tensor.name: tensor for tensor in net.outputs})


@contextmanager
def _without_weights(path: Path) -> Iterator[Path]:
    """A file of the graph at ``path`` whose weights are said to lie in ``path``; they are not read.

    It is beside ``path``, because the checker asks whether the files that a graph names are there.
    """
    there = TensorProto(data_location=TensorProto.EXTERNAL)
    there.external_data.add(key="location", value=path.name)
    with path.open("rb") as file, tempfile.NamedTemporaryFile(dir=path.parent, suffix=".onnx") as bare:
        bare.write(_bare(file, path.stat().st_size, (_GRAPH, _INITIALIZER), there.SerializeToString()))
        bare.flush()
        yield Path(bare.name)


def _bare(file: BinaryIO, end: int, within: Sequence[int], there: bytes) -> bytes:
    """The message from here to ``end``, with ``there`` in the place of the weights of the tensors in the fields
    ``within``, each a field of the one before.
    """
    kept = []
    for number, start, begin, stop in wire.fields(file, end):
        if within and number == within[0]:
            message = _bare(file, stop, within[1:], there)
            kept += [wire.key(number), wire.varint(len(message)), message]
        elif not within and number == _WEIGHTS and stop - begin > _SMALL:
            kept.append(there)
        else:
            file.seek(start)
            kept.append(file.read(stop - start))
    return b"".join(kept)


def _compare(what: str, values, expected: Mapping[str, Tensor]) -> None:
    names = {value.name for value in values}
    if names != set(expected):
        raise ExportFailed(f"The graph's {what}s are {sorted(names)}, not {sorted(expected)}.")
    for value in values:
        wanted, tensor = expected[value.name], value.type.tensor_type
        axes = [axis.dim_value or -1 for axis in tensor.shape.dim]
        # an input declared as dynamic must be dynamic; an output declared as dynamic may have a fixed size
        fits = len(axes) == len(wanted.shape) and all(
            a in (d, -1) or (d == -1 and what == "output" and i != wanted.batch_axis)
            for i, (a, d) in enumerate(zip(axes, wanted.shape, strict=False))
        )
        if tensor.elem_type != _TYPES[wanted.dtype] or not fits:
            kind = TensorProto.DataType.Name(tensor.elem_type)
            shape = list(wanted.shape)
            raise ExportFailed(f"The graph's {what} '{value.name}' is {kind} {axes}, not {wanted.dtype} {shape}.")
