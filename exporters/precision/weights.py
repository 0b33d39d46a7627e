"""Weights of a decoder in 8 or 4 bits, in blocks that share a scale: ``MatMulNBits`` of ONNX Runtime.

What is computed stays fp32. Generating a token reads every weight once, so a token takes about as much less time as
they have fewer bytes. Products of two computed tensors, those of attention, stay as they are, and so does the table of
embeddings, which is another network.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from tritonvision.exporters.graphs import storage

BITS = {"int8": 8, "int4": 4}
_BLOCK = 32  # weights that share a scale
_ACTIVATIONS = 4  # accuracy level: activations are rounded to int8 in blocks as well, which the fast kernels want


def write(graph: Path, target: Path, precision: str, kept: Sequence[str] = ()) -> list[str]:
    """Write a graph with its weights in as few bits as ``precision`` says.

    Args:
        graph: an ONNX file, with external data or without.
        kept: names of products whose weights stay fp32.

    Returns:
        Names of the products whose weights do not, in the order of the graph.
    """
    import onnx

    level = logging.getLogger().level
    from onnxruntime.quantization import matmul_nbits_quantizer as quantizer

    logging.getLogger().setLevel(level)  # that module sets it, and tells every node
    quantizer.logger.setLevel(logging.ERROR)
    model = onnx.load(graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    found = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    made = quantizer.MatMulNBitsQuantizer(
        model, bits=BITS[precision], block_size=_BLOCK, is_symmetric=False, accuracy_level=_ACTIVATIONS,
        nodes_to_exclude=list(kept),
    )  # fmt: skip
    made.process()
    storage.save(made.model.model, target)
    return [name for name in found if name not in kept]
