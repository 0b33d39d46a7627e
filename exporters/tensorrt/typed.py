"""Graphs that carry their precision: what NVIDIA's Model Optimizer makes of the fp32 graph, the one way for TensorRT 10
and 11. fp16 and bf16 by its autocast, int8 and fp8 by nodes that quantise and dequantise.
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tritonvision.errors import ExportFailed, NotSupported, SetupError
from tritonvision.exporters.graphs import storage
from tritonvision.graph_files import files_of

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
# Sums over many elements: their mantissa is what fp16 and bf16 save. TensorRT fuses them with their neighbours anyway.
KEPT_OPERATORS = ("LayerNormalization", "InstanceNormalization", "ReduceMean", "ReduceSum", "Softmax")
_WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_FEWEST_WEIGHTS = 256  # a product with fewer constants decodes something: it is no layer


class Typed(NamedTuple):
    """Operators of a graph by what they compute in, each in the graph's order.

    Attributes:
        kept: names of those that stay in fp32 because of their place or by name.
        layers: names of those with weights that do not.
    """

    kept: tuple[str, ...]
    layers: tuple[str, ...]


def write(
    graph: Path, target: Path, precision: str, samples: Mapping[str, np.ndarray], keep_fp32: Sequence[str] = (),
) -> Typed:  # fmt: skip
    """Write the fp32 graph as one of another precision; its inputs and outputs keep their names and types.

    Beside what ``keep_fp32`` names, these stay in fp32: what stands before the first and behind the last layer with
    weights on its way (pixels are normalised there, boxes decoded, scores sorted), and in fp16 and bf16
    :data:`KEPT_OPERATORS`.

    Args:
        samples: inputs of the network by name, batch axis first, on which the range of each tensor is measured.
        keep_fp32: regular expressions; operators whose names one of them finds stay in fp32: the family's policy, and
            what the precision gate blamed.

    Returns:
        What stays in fp32, and what does not; of fp32 itself nothing of either.

    Raises:
        SetupError: the Model Optimizer is not installed.
        NotSupported: no such precision.
        ExportFailed: it cannot convert the graph, or finds nothing in it to quantise.
    """
    import onnx

    if precision not in PRECISIONS:
        raise NotSupported(f"TensorRT plans have no precision '{precision}'.", hint=f"One of {', '.join(PRECISIONS)}.")
    if precision == "fp32":
        storage.save(onnx.load(graph), target)
        return Typed((), ())
    found = operators(onnx.load(graph, load_external_data=False).graph, keep_fp32)
    convert = _autocast if precision in ("fp16", "bf16") else _quantise
    try:
        convert(graph, target, precision, samples, found.kept)
    except ModuleNotFoundError as error:
        raise SetupError(
            "NVIDIA's Model Optimizer is not installed here.", hint="See docs/tensorrt.md for how to install it."
        ) from error
    except (ImportError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ExportFailed(f"The graph cannot be written in {precision}: {why}") from error
    return found


def operators(graph: onnx.GraphProto, patterns: Sequence[str]) -> Typed:
    """What stays in fp32, by its place or found by a pattern, and the layers that do not."""
    constants = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    weighted = [
        node.op_type in _WEIGHTED and any(constants.get(name, 0) >= _FEWEST_WEIGHTS for name in node.input)
        for node in graph.node
    ]
    behind = _reached(graph.node, weighted)
    before = _reached(list(reversed(graph.node)), list(reversed(weighted)), backwards=True)[::-1]
    named = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
    kept = tuple(
        node.name
        for node, layer, after, ahead in zip(graph.node, weighted, behind, before, strict=True)
        # neither a layer nor between layers, or named
        if (not layer and not (after and ahead)) or (named is not None and named.search(node.name))
    )
    stay = set(kept)
    layers = (node.name for node, layer in zip(graph.node, weighted, strict=True) if layer)
    return Typed(kept, tuple(name for name in layers if name not in stay))


def _reached(nodes: Sequence[onnx.NodeProto], weighted: Sequence[bool], backwards: bool = False) -> list[bool]:
    """Of each node, in their order, whether a layer with weights lies on a way to it (from it, when ``backwards``)."""
    values: set[str] = set()
    found = []
    for node, layer in zip(nodes, weighted, strict=True):
        given, gives = (node.output, node.input) if backwards else (node.input, node.output)
        reached = any(name in values for name in given)
        found.append(reached)
        if reached or layer:
            values.update(name for name in gives if name)
    return found


def _autocast(
    graph: Path, target: Path, precision: str, samples: Mapping[str, np.ndarray], kept: Sequence[str]
) -> None:
    from modelopt.onnx.autocast import convert_to_mixed_precision

    with tempfile.TemporaryDirectory() as folder:
        measured = Path(folder) / "samples.npz"
        np.savez(measured, **{name: value[:1] for name, value in samples.items()})
        with _quiet():
            model = convert_to_mixed_precision(
                str(graph), low_precision_type=precision, keep_io_types=True, calibration_data=str(measured),
                nodes_to_exclude=[f"^{re.escape(name)}$" for name in kept], op_types_to_exclude=list(KEPT_OPERATORS),
            )  # fmt: skip
    storage.save(model, target)


def _quantise(
    graph: Path, target: Path, precision: str, samples: Mapping[str, np.ndarray], kept: Sequence[str]
) -> None:
    import onnx
    from modelopt.onnx import quantization

    with tempfile.TemporaryDirectory() as folder, _quiet():
        # it writes files beside the graph it is given
        copy = Path(folder) / graph.name
        for path in files_of(graph):
            shutil.copy(path, folder)
        quantization.quantize(
            str(copy), quantize_mode=precision, calibration_data=dict(samples), calibration_eps=["cpu"],
            nodes_to_exclude=[f"^{re.escape(name)}$" for name in kept], high_precision_dtype="fp16",
            output_path=str(Path(folder) / "typed.onnx"), log_level="ERROR",
        )  # fmt: skip
        model = onnx.load(Path(folder) / "typed.onnx")
    if all(node.op_type != "DequantizeLinear" for node in model.graph.node):
        raise ExportFailed(f"No layer of the graph is of a kind or size that is computed in {precision}.")
    storage.save(model, target)


class _quiet:
    """What the Model Optimizer says while it works is of its own making; errors come as exceptions."""

    def __enter__(self) -> None:
        self._level = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *_: object) -> None:
        logging.disable(self._level)
