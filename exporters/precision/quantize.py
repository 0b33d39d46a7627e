"""One ONNX graph to int8: NNCF's quantisation after training, written as OpenVINO's own files."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Tensors

if TYPE_CHECKING:
    import openvino

_CONVOLUTIONS = {"Convolution", "GroupConvolution"}
_PRODUCTS = _CONVOLUTIONS | {"MatMul"}
_WITHOUT = "/WithoutBiases"  # OpenVINO's word for a layer whose bias it made an operation of its own
_LEARNT = 1024  # numbers that a constant must have to count as weights: fewer are anchors or bins of the head


def int8(graph: Path, inputs: Sequence[Tensors], target: Path, kept_fp32: Sequence[str] = ()) -> tuple[str, ...]:
    """Write the graph with its weights and activations in int8.

    Args:
        graph: an ONNX file in fp32.
        inputs: what the network reads, by name, batch axis first: the ranges of its activations follow from them.
        target: the ``.xml`` to write; its ``.bin`` goes beside it.
        kept_fp32: names of layers to leave as they are, out of what this returns.

    Returns:
        Names of the layers that compute in int8, in the order of the graph.

    Raises:
        ExportFailed: NNCF cannot quantise this graph.
        ModuleNotFoundError: ``nncf`` or ``openvino`` is not installed.
    """
    nncf = _nncf()
    import openvino

    from tritonvision.python_backend.runtime.openvino_session import REST

    try:
        model = openvino.Core().read_model(graph)
    except RuntimeError as error:
        raise ExportFailed("OpenVINO cannot read this network.") from error
    # what OpenVINO adds has a number for a name, which is another one the next time
    named = {op.get_friendly_name() for op in model.get_ordered_ops() if op.get_friendly_name() != op.get_name()}
    settings: dict[str, Any] = {"subset_size": len(inputs)}
    transformer = _is_transformer(model)
    if transformer:
        settings["model_type"] = nncf.ModelType.TRANSFORMER
    ignored = [*_behind_the_weights(model), *kept_fp32, *(name + _WITHOUT for name in kept_fp32)]
    settings["ignored_scope"] = nncf.IgnoredScope(names=ignored, validate=False)
    with _quiet():
        try:
            quantised = nncf.quantize(model, nncf.Dataset(list(inputs)), **settings)
        except (nncf.errors.InternalError, nncf.errors.ValidationError, RuntimeError, ValueError) as error:
            raise ExportFailed("NNCF cannot quantise this network.") from error
    found = _layers(quantised, named)
    if transformer and not kept_fp32:  # much is left that is not int8: softmax, norms, products of activations
        quantised.set_rt_info("bf16", REST)
    openvino.save_model(quantised, target, compress_to_fp16=False)
    return found


def _layers(model: openvino.Model, named: set[str]) -> tuple[str, ...]:
    """Operations that read what a quantiser gives, by the names they have in the ONNX graph."""
    return tuple(
        op.get_friendly_name().removesuffix(_WITHOUT)
        for op in model.get_ordered_ops()
        if op.get_friendly_name() in named
        and any(source.get_node().get_type_name() == "FakeQuantize" for source in op.input_values())
    )


def _behind_the_weights(model: openvino.Model) -> list[str]:
    """Operations that no weights follow. They make an answer of what the last layer says: boxes from offsets, a mean of
    bins, scores. In int8 a box could lie at 256 places of a picture only, and they cost next to nothing.
    """
    ops = model.get_ordered_ops()
    before, waiting = set(), [op for op in ops if _has_weights(op)]
    while waiting:
        op = waiting.pop()
        if op.get_friendly_name() not in before:
            before.add(op.get_friendly_name())
            waiting.extend(source.get_node() for source in op.input_values())
    return [
        op.get_friendly_name()
        for op in ops
        if op.get_friendly_name() not in before and op.get_type_name() not in ("Constant", "Result")
    ]


def _has_weights(op: openvino.Node) -> bool:
    if op.get_type_name() not in _PRODUCTS:
        return False
    weights = op.input_value(1)
    while weights.get_node().get_type_name() in ("Convert", "Reshape", "Transpose"):
        weights = weights.get_node().input_value(0)
    constant = weights.get_node().get_type_name() == "Constant"
    return constant and weights.get_partial_shape().is_static and int(np.prod(weights.get_shape())) >= _LEARNT


def _is_transformer(model: openvino.Model) -> bool:
    """Whether most of the weights' work is matrix products; of the rest NNCF leaves more in fp32 then."""
    kinds = [op.get_type_name() for op in model.get_ordered_ops()]
    return kinds.count("MatMul") > sum(kind in _CONVOLUTIONS for kind in kinds)


def _nncf() -> ModuleType:
    """The package, which greets on the standard output when it is imported."""
    with contextlib.redirect_stdout(io.StringIO()):
        importlib.import_module("nncf.errors")
        return importlib.import_module("nncf")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """NNCF neither logs nor draws bars: an export has a progress of its own."""
    logger = logging.getLogger("nncf")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
