"""From a torch module to a pinned and checked ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tritonvision.ensembles.tensors import BATCH
from tritonvision.errors import ExportFailed
from tritonvision.exporters.graphs import storage
from tritonvision.exporters.graphs.casts import cast_first

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch

OPSET = 17
APART = 256_000_000  # bytes of weights that are copied no more than once
_LARGE = 1 << 16  # bytes from which a weight is left out of the graph of a large network until the end
IR_VERSION = 8  # what the runtimes of 2022 and later read; newer onnx packages would write a newer one


def export_onnx(
    module: torch.nn.Module, example: torch.Tensor | Sequence[torch.Tensor], path: Path, inputs: Sequence[str],
    outputs: Sequence[str], dynamic: Mapping[str, Mapping[int, str]] | None = None, inside: int | None = None,
) -> None:  # fmt: skip
    """Write ``module`` as one slimmed and checked ONNX graph: opset 17, IR 8, batch axis dynamic, all else static,
    pictures cast before they are arranged (:mod:`tritonvision.exporters.graphs.casts`).

    Tracing, slimming and checking copy a graph eight times. So weights of :data:`APART` bytes or more are left out of
    them and written from ``module`` itself; the whole graph is checked before it is published
    (:mod:`tritonvision.exporters.graphs.check`).

    Args:
        module: takes a tensor for each of ``inputs``, gives one for each of ``outputs``; put into eval mode here,
            because the exporter restores the mode that it finds.
        example: of the inputs, with a batch of two, so that a batch of one does not become a constant.
        dynamic: names of further dynamic axes, by input or output and axis; one that is named ``batch`` is the batch
            axis instead of the first.
        inside: bytes of weights from which they lie beside the graph, as external data
            (:mod:`tritonvision.exporters.graphs.storage`); by default :data:`storage.INSIDE`.

    Raises:
        ExportFailed: the graph is not valid ONNX.
    """
    import onnx
    import onnxslim
    import torch

    given = {name: dict((dynamic or {}).get(name, {})) for name in (*inputs, *outputs)}
    axes = {name: named if BATCH in named.values() else {0: BATCH, **named} for name, named in given.items()}
    examples = (example,) if isinstance(example, torch.Tensor) else tuple(example)
    size = weight_bytes(module)
    beside = size >= (storage.INSIDE if inside is None else inside)
    apart = beside or size >= APART
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        # The TorchScript route is deprecated, but gives IR 8 and passed every family in a tenth of the time.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), examples, path, dynamo=False, opset_version=OPSET, input_names=list(inputs),
            output_names=list(outputs), dynamic_axes=axes, export_params=not apart, do_constant_folding=not apart,
        )  # fmt: skip
    model = onnx.load(path)
    weights = _left_out(model.graph, module) if apart else {}
    model = onnxslim.slim(model)
    cast_first(model.graph)
    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed("The exported graph is not valid ONNX.") from error
    if not apart:
        storage.save(model, path)
    else:
        from tritonvision.python_backend.runtime.sessions import release_free_memory

        storage.write(model, path, _written(model.graph, weights), beside and bool(weights))
        del model, weights
        release_free_memory()


def weight_bytes(module: torch.nn.Module) -> int:
    """Bytes of a network's parameters and buffers; what several layers share counts once."""
    tensors = (*module.parameters(), *module.buffers())
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in tensors}.values())


def _left_out(graph: onnx.GraphProto, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The large ones of the weights that are inputs of ``graph``, by name; the small ones become initializers."""
    import onnx

    tensors, large = module.state_dict(), {}
    for value in [value for value in graph.input if value.name in tensors]:
        tensor = tensors[value.name]
        if tensor.nbytes >= _LARGE:
            large[value.name] = tensor
        else:
            graph.input.remove(value)
            graph.initializer.append(onnx.numpy_helper.from_array(tensor.numpy(), value.name))
    return large


def _written(graph: onnx.GraphProto, weights: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, np.ndarray]]:
    """The weights that ``graph`` still reads, by the name it reads them by.

    One that is read by a transposition alone is written transposed, and the transposition removed from the graph:
    engines would do the same, with a second copy of the weight in memory.
    """
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for value in [value for value in graph.input if value.name in weights]:
        tensor = weights[value.name]
        reading = readers.get(value.name, [])
        if len(reading) == 1 and reading[0].op_type == "Transpose":
            (node,) = reading
            axes = next((list(attribute.ints) for attribute in node.attribute), list(range(tensor.ndim))[::-1])
            graph.node.remove(node)
            graph.input.remove(value)
            yield node.output[0], tensor.permute(axes).contiguous().numpy()
        else:
            yield value.name, tensor.contiguous().numpy()
