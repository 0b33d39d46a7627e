"""Writing, hashing and moving graphs of any size; which files one has is known to :mod:`tritonvision.graph_files`.

Weights are written one after another, so that of a graph of many gigabytes no second copy is in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.exporters.graphs import wire
from tritonvision.graph_files import data_file, files_of

if TYPE_CHECKING:
    import numpy as np
    import onnx

INSIDE = 1_900_000_000  # bytes of weights that one ONNX file takes: protobuf ends at 2 GiB, and the graph needs room
_PAGE = 4096  # weights begin at a multiple of it, so that engines can map them
_SMALL = 1024  # bytes up to which a constant stays in the graph: shapes are read from there
_BLOCK = 1 << 20
_LENGTH = 5  # bytes in which the length of a graph is written: 35 bits


def digest(graphs: Iterable[Path]) -> str:
    """sha256, hex, of the bytes of all these graphs one after another."""
    whole = hashlib.sha256()
    for path in (path for graph in graphs for path in files_of(graph)):
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                whole.update(block)
    return whole.hexdigest()


def placed(graph: Path, target: str) -> dict[str, Path]:
    """The files of ``graph`` by the path that each gets when the graph is moved to ``target``, a path with ``/``.

    Raises:
        ValueError: the graph would get another name, and it has external data, which it names after itself.
    """
    folder, slash, name = target.rpartition("/")
    files = files_of(graph)
    if len(files) > 1 and name != graph.name:
        raise ValueError(f"A graph with external data keeps its name: '{graph.name}' cannot become '{name}'.")
    return {target: graph} | {f"{folder}{slash}{path.name}": path for path in files[1:]}


def digests(graph: Path, target: str) -> dict[str, str]:
    """sha256, hex, of each file of ``graph``, by the path that :func:`placed` gives it."""
    found = {}
    for place, path in placed(graph, target).items():
        with path.open("rb") as file:
            found[place] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def move(graph: Path, root: Path, target: str) -> None:
    """Move ``graph`` to ``target`` below ``root``, on the same file system and into a folder that exists."""
    for place, path in placed(graph, target).items():
        path.rename(root / place)


def write(model: onnx.ModelProto, graph: Path, weights: Iterable[tuple[str, np.ndarray]], beside: bool) -> None:
    """Write a model whose weights are inputs of it so far; they become its initializers.

    Args:
        graph: the file to write.
        weights: names of these inputs and their values, taken and written one at a time; as they are taken, nodes may
            be removed from ``model``.
        beside: whether the weights are written as external data, into :func:`tritonvision.graph_files.data_file`.

    Raises:
        OSError: the disk is full, or the folder cannot be written.
    """
    if beside:
        model.graph.initializer.extend(_beside(graph, weights))
        _drop_inputs(model.graph, {tensor.name for tensor in model.graph.initializer})
        graph.write_bytes(model.SerializeToString())
    else:
        _inside(model, graph, weights)


def _drop_inputs(graph: onnx.GraphProto, names: Collection[str]) -> None:
    inputs = [value for value in graph.input if value.name not in names]
    del graph.input[:]
    graph.input.extend(inputs)


def _inside(model: onnx.ModelProto, path: Path, weights: Iterable[tuple[str, np.ndarray]]) -> None:
    """Write the bytes that protobuf would, the weights first in the graph, without a message that holds them: that
    would copy all of them four times. How long the graph is is known at last, and written into the room left for it.
    """
    import numpy as np
    import onnx

    around = onnx.ModelProto()
    around.CopyFrom(model)
    around.ClearField("graph")
    names = {tensor.name for tensor in model.graph.initializer}
    initializer = wire.key(wire.number_of(onnx.GraphProto, "initializer"))
    with path.open("wb") as file:
        file.write(around.SerializeToString() + wire.key(wire.number_of(onnx.ModelProto, "graph")))
        place = file.tell()
        file.write(bytes(_LENGTH))
        for name, values in weights:
            kind = onnx.helper.np_dtype_to_tensor_dtype(values.dtype)
            told = onnx.TensorProto(name=name, data_type=kind, dims=values.shape).SerializeToString()
            told += wire.key(wire.number_of(onnx.TensorProto, "raw_data")) + wire.varint(values.nbytes)
            file.write(initializer + wire.varint(len(told) + values.nbytes) + told)
            # ndarray.tofile would not tell why it failed
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            names.add(name)
        _drop_inputs(model.graph, names)
        file.write(model.graph.SerializeToString())
        length = file.tell() - place - _LENGTH
        file.seek(place)
        file.write(wire.varint(length, _LENGTH))


def save(model: onnx.ModelProto, graph: Path, inside: int | None = None) -> None:
    """Write a model with its initializers: in one file, or where they have ``inside`` bytes or more, beside the graph.

    The default is :data:`INSIDE`. The initializers leave ``model`` then. Raises OSError as :func:`write`.
    """
    import onnx

    if sum(len(tensor.raw_data) for tensor in model.graph.initializer) < (INSIDE if inside is None else inside):
        graph.write_bytes(model.SerializeToString())
        return
    tensors = list(model.graph.initializer)
    large = [tensor for tensor in tensors if len(tensor.raw_data) > _SMALL]
    del model.graph.initializer[:]
    model.graph.initializer.extend(tensor for tensor in tensors if len(tensor.raw_data) <= _SMALL)
    del tensors
    write(model, graph, ((tensor.name, onnx.numpy_helper.to_array(tensor)) for tensor in large), beside=True)


def _beside(graph: Path, weights: Iterable[tuple[str, np.ndarray]]) -> Iterator[onnx.TensorProto]:
    """Append each of ``weights`` to the data file of ``graph``, and give the initializer that says where it lies."""
    import numpy as np
    import onnx

    data = data_file(graph)
    with data.open("wb") as file:
        for name, values in weights:
            file.write(bytes(-file.tell() % _PAGE))
            found = {"location": data.name, "offset": file.tell(), "length": values.nbytes}
            # ndarray.tofile would not tell why it failed
            file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            tensor = onnx.TensorProto(
                name=name, data_type=onnx.helper.np_dtype_to_tensor_dtype(values.dtype), dims=values.shape,
                data_location=onnx.TensorProto.EXTERNAL,
            )  # fmt: skip
            for key, value in found.items():
                tensor.external_data.add(key=key, value=str(value))
            yield tensor
