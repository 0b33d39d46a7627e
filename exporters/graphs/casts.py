"""Casts of whole numbers moved before what only arranges them anew, so that every engine takes the graph.

TensorRT reads uint8 as an input of a network and casts it; it does not transpose, slice or reshape it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# Operators whose output holds elements of their first input as they are: a cast before and one after give the same.
# What else they read (shapes, axes, bounds) is not cast.
_ARRANGING = {"Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}


def cast_first(graph: onnx.GraphProto) -> int:
    """Move the casts of uint8 inputs to the front, in place; the graph computes the same numbers.

    An input that one operator after another arranges anew, and nobody else reads, before it is cast, is cast first and
    then arranged. The graph's inputs and outputs stay as they are.

    Returns:
        How many casts were moved.
    """
    from onnx import TensorProto

    pictures = [value.name for value in graph.input if value.type.tensor_type.elem_type == TensorProto.UINT8]
    return sum(_move_cast(graph, picture) for picture in pictures)


def _move_cast(graph: onnx.GraphProto, picture: str) -> bool:
    """As :func:`cast_first`, for the one input ``picture``: whether there was a cast to be moved."""
    chain: list[onnx.NodeProto] = []
    reader = _only_reader(graph, picture)
    while reader is not None and reader.op_type in _ARRANGING:
        chain.append(reader)
        reader = _only_reader(graph, reader.output[0])
    if not chain or reader is None or reader.op_type != "Cast":
        return False
    cast, arranged_as_bytes = reader, {node.output[0] for node in chain}
    # the last of the chain gives what the cast gave, so that all behind it reads on
    chain[-1].output[0] = cast.output[0]
    cast.input[0], cast.output[0] = picture, f"{picture}/cast"
    chain[0].input[0] = cast.output[0]
    graph.node.remove(cast)
    graph.node.insert(list(graph.node).index(chain[0]), cast)
    for value in [value for value in graph.value_info if value.name in arranged_as_bytes]:
        graph.value_info.remove(value)  # its type was uint8
    return True


def _only_reader(graph: onnx.GraphProto, value: str) -> onnx.NodeProto | None:
    """The node that alone reads ``value``, as its first input; None where it is not alone or ``value`` is an output."""
    readers = [node for node in graph.node if value in node.input]
    alone = len(readers) == 1 and readers[0].input[0] == value and value not in readers[0].input[1:]
    return readers[0] if alone and all(output.name != value for output in graph.output) else None
