"""What every torch family needs: torchvision beside a CPU torch, and the way from a module to a pinned ONNX file."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tritonvision.errors import ExportFailed, SetupError

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 17
_LARGE = 1 << 16  # bytes of a weight that is set aside
IR_VERSION = 8  # what the runtimes of 2022 and later read; newer onnx packages would write a newer one

_fragments: list[torch.library.Library] = []  # an operator lives as long as the Library that defined it


def import_torchvision() -> None:
    """Import torchvision, also where its wheel was built for CUDA and torch was not.

    Such a wheel cannot load its extension, and without the extension's operators its import fails. ``nms`` is all that
    timm and ultralytics ask of them: here it gets a definition and a numpy kernel of the same arithmetic.

    Raises:
        SetupError: torch or torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        raise SetupError(
            "This export needs torch and torchvision.",
            hint="Install them with: pip install 'tritonvision[export,torch-cpu]'",
        )
    if not _extension_loads():
        _define_nms()
        import torchvision.ops.boxes

        torchvision.ops.boxes._assert_has_ops = lambda: None
    import torchvision  # noqa: F401


def _extension_loads() -> bool:
    import torch

    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.submodule_search_locations[0])
    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(library)
        except OSError:  # built for another torch
            return False
        return True
    return False


def _define_nms() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl(
        "nms", lambda dets, scores, limit: torch.from_numpy(greedy_nms(dets.numpy(), scores.numpy(), limit)), "CPU"
    )
    _fragments.append(library)


def greedy_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> np.ndarray:
    """``torchvision.ops.nms`` in numpy: kept indices int64 of ``[n,4]`` corners, best first, ties in their order.

    As in its CPU kernel the IoU is taken in the boxes' own precision and compared with a double. Not the head kind's
    ``nms``: this one stands on the oracle's side, and a fault in a piece both share would compare as equal.
    """
    order = np.argsort(-scores, kind="stable")
    x1, y1, x2, y2 = boxes.T
    areas = (x2 - x1) * (y2 - y1)
    kept = []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        width = np.maximum(np.minimum(x2[best], x2[order]) - np.maximum(x1[best], x1[order]), 0)
        height = np.maximum(np.minimum(y2[best], y2[order]) - np.maximum(y1[best], y1[order]), 0)
        overlap = width * height
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = overlap / (areas[best] + areas[order] - overlap)
        order = order[~(iou.astype(np.float64) > iou_threshold)]
    return np.asarray(kept, dtype=np.int64)


def export_onnx(
    module: torch.nn.Module, example: torch.Tensor | Sequence[torch.Tensor], path: Path, inputs: Sequence[str],
    outputs: Sequence[str], dynamic: Mapping[str, Mapping[int, str]] | None = None, large: bool = False,
) -> None:  # fmt: skip
    """Write ``module`` as one slimmed and checked ONNX file: opset 17, IR 8, batch axis dynamic, all else static.

    Args:
        module: takes a tensor for each of ``inputs``, gives one for each of ``outputs``; put into eval mode here,
            because the exporter restores whatever mode it finds.
        example: of the inputs, with a batch of two, so that nothing can take the batch for the number one.
        dynamic: names of further free axes, by input or output and axis.
        large: leave the weights out of slimming and checking, which copy a graph several times over; whoever publishes
            the file checks it whole (:mod:`tritonvision.exporters.onnx_check`).

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
    model.ir_version = IR_VERSION
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed("The exported graph is not valid ONNX.") from error
    _put_back(model.graph, weights)
    onnx.save(model, path)
    if large:
        from tritonvision.python_backend.sessions import release_free_memory

        del model, weights
        release_free_memory()


def _set_aside(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Take the large weights out of a graph; they are inputs of it meanwhile."""
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
    """The inverse of :func:`_set_aside`, for what the graph still reads."""
    for value in [value for value in graph.input if value.name in weights]:
        graph.input.remove(value)
        graph.initializer.append(weights[value.name])


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages`` and of those that every torch export uses."""
    return {name: metadata.version(name) for name in ("torch", "onnx", "onnxslim", *packages)}
