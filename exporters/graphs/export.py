"""From a torch module to a pinned and checked ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.errors import ExportFailed
from tritonvision.exporters.graphs.casts import cast_first

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 17
_LARGE = 1 << 16  # bytes from which a weight is set aside
IR_VERSION = 8  # what the runtimes of 2022 and later read; newer onnx packages would write a newer one


def export_onnx(
    module: torch.nn.Module, example: torch.Tensor | Sequence[torch.Tensor], path: Path, inputs: Sequence[str],
    outputs: Sequence[str], dynamic: Mapping[str, Mapping[int, str]] | None = None, large: bool = False,
) -> None:  # fmt: skip
    """Write ``module`` as one slimmed and checked ONNX file: opset 17, IR 8, batch axis dynamic, all else static,
    pictures cast before they are arranged (:mod:`tritonvision.exporters.graphs.casts`).

    Args:
        module: takes a tensor for each of ``inputs``, gives one for each of ``outputs``; put into eval mode here,
            because the exporter restores the mode that it finds.
        example: of the inputs, with a batch of two, so that a batch of one does not become a constant.
        dynamic: names of further dynamic axes, by input or output and axis.
        large: leave the weights out of slimming and checking, which copy a graph several times; the whole file is
            checked before it is published (:mod:`tritonvision.exporters.graphs.check`).

    Raises:
        ExportFailed: the graph is not valid ONNX.
    """
    import onnx
    import onnxslim
    import torch

    axes = {name: {0: "batch", **(dynamic or {}).get(name, {})} for name in (*inputs, *outputs)}
    examples = (example,) if isinstance(example, torch.Tensor) else tuple(example)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript route is deprecated, but gives IR 8 and passed every family in a tenth of the time.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), examples, path, dynamo=False, opset_version=OPSET, input_names=list(inputs),
            output_names=list(outputs), dynamic_axes=axes,
        )  # fmt: skip
    model = onnx.load(path)
    weights = _set_aside(model.graph) if large else {}
    model = onnxslim.slim(model)
    cast_first(model.graph)
    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed("The exported graph is not valid ONNX.") from error
    _put_back(model.graph, weights)
    onnx.save(model, path)
    if large:
        from tritonvision.python_backend.runtime.sessions import release_free_memory

        del model, weights
        release_free_memory()


def _set_aside(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Remove the large weights from a graph, where they become inputs, and return them."""
    import onnx

    weights = {tensor.name: tensor for tensor in graph.initializer if len(tensor.raw_data) >= _LARGE}
    constants = [tensor for tensor in graph.initializer if tensor.name not in weights]
    del graph.initializer[:]
    graph.initializer.extend(constants)
    graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in weights.values()
    )
    return weights


def _put_back(graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto]) -> None:
    """The inverse of :func:`_set_aside`, for the weights that the slimmed graph still reads."""
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
        graph.initializer.append(weights[value.name])
