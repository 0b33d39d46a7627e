"""A user's ONNX graph: read with every check, and wrapped to take uint8 pixels and to give canonical tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from tritonvision.errors import ExportFailed
from tritonvision.exporters.graphs import storage
from tritonvision.exporters.parity.gate import refusing_what_cannot_run
from tritonvision.python_backend.runtime.onnxruntime_session import open_session

_LARGEST = 2_000_000_000  # bytes: protobuf's own limit is a little higher
_OPSETS = range(11, 24)  # GatherElements, and TopK as it is used here, exist since 11
_STANDARD, _OF_ONNXRUNTIME = ("", "ai.onnx"), ("com.microsoft", "ai.onnx.ml")
_CODE = "What this import cannot do, a package with code of its own can."
_INTEGER = {"ConvInteger", "MatMulInteger", "QuantizeLinear", "DynamicQuantizeLinear"}
_SAME = {"Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape", "Squeeze", "Unsqueeze"}
_FLOATS: dict[int, type[np.floating]] = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


@dataclass(frozen=True)
class PackageGraph:
    """A graph as its author wrote it.

    Attributes:
        name: of its file in errors.
        model: with all its weights, checked.
        size: (height, width) of its pictures.
        dtype: of its only input, ``[N, 3, height, width]``.
        shapes, kinds: shapes of its outputs for one picture, in their order and with the batch axis, and ONNX's numbers
            of their types.
        batched: whether its batch axis is dynamic.
    """

    name: str
    model: onnx.ModelProto
    size: tuple[int, int]
    dtype: type[np.floating]
    shapes: dict[str, tuple[int, ...]]
    kinds: dict[str, int]
    batched: bool
    session: onnxruntime.InferenceSession

    @property
    def input(self) -> onnx.ValueInfoProto:
        """Its only input."""
        return _inputs(self.model.graph)[0]

    @property
    def precision(self) -> str:
        """``int8`` where operators are quantised, ``fp16`` where weights are in half precision, else ``fp32``."""
        if any(node.op_type.startswith("QLinear") or node.op_type in _INTEGER for node in self.model.graph.node):
            return "int8"
        halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in self.model.graph.initializer)
        return "fp16" if self.dtype == np.float16 or halves else "fp32"

    @property
    def suppresses(self) -> bool:
        """Whether a non-maximum suppression with thresholds of its own is inside."""
        return any(node.op_type == "NonMaxSuppression" for node in nodes_of(self.model.graph))

    def last_operator(self) -> str:
        """The operator of its first output; empty for an input. Operators that change no value are skipped."""
        makers = {name: node for node in self.model.graph.node for name in node.output}
        node = makers.get(self.model.graph.output[0].name)
        while node is not None and node.op_type in _SAME:
            node = makers.get(node.input[0])
        return "" if node is None else node.op_type

    def __call__(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Its outputs, float32, for ``[B, 3, height, width]``; picture by picture where its batch is fixed.

        Raises ExportFailed.
        """
        parts = [images] if self.batched else np.split(images, len(images))
        answers = [_run(self, self.input.name, part.astype(self.dtype)) for part in parts]
        rows = zip(*answers, strict=True)
        return {name: np.concatenate(row).astype(np.float32) for name, row in zip(self.shapes, rows, strict=True)}

    def sample(self) -> list[np.ndarray]:
        """Its outputs, float32, for two pictures of noise in 0..1."""
        noise = np.random.default_rng(0).random((2, 3, *self.size), dtype=np.float32)
        return list(self(noise).values())


def read(
    path: Path, size: tuple[int, int], name: str = "weights.onnx", model: onnx.ModelProto | None = None
) -> PackageGraph:  # fmt: skip
    """Read the graph at ``path``, which must take pictures of ``size`` (height, width).

    Args:
        name: of the file in errors.
        model: the result of :func:`load` for that path, if there is one.

    Raises:
        ExportFailed: it is no valid graph, or does not take one batch of RGB pictures of that size.
    """
    model = load(path, name) if model is None else model
    inputs = _inputs(model.graph)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in _FLOATS:
        raise ExportFailed(
            f"{name} does not have one input of floating-point pictures.", hint="It takes [N, 3, height, width]."
        )
    shape = input_shape(model)
    fits = len(shape) == 4 and all(a in (None, b) for a, b in zip(shape[1:], (3, *size), strict=True))
    if not fits or shape[0] not in (None, 1):
        raise ExportFailed(
            f"{name} takes {shape}, not [N or 1, 3, {size[0]}, {size[1]}].",
            hint="None stands for any length; height and width are those that the description says.",
        )
    dtype = _FLOATS[inputs[0].type.tensor_type.elem_type]
    with refusing_what_cannot_run(name):
        # onnxruntime cannot read a shape from an external file
        session = open_session(model.SerializeToString() if _has_files(path) else path)
        noise = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32).astype(dtype)
        answer = session.run(None, {inputs[0].name: noise})
    if not all(isinstance(a, np.ndarray) and a.dtype.kind == "f" and a.ndim >= 2 and len(a) == 1 for a in answer):
        raise ExportFailed(f"{name} answers something else than floating-point numbers for each picture.", hint=_CODE)
    if not all(np.isfinite(a).all() for a in answer):
        raise ExportFailed(
            f"{name} answers NaN or infinity to a picture of noise.",
            hint="Did its training go well? In fp16 numbers may be out of range: export it in fp32.",
        )
    shapes = {output.name: a.shape for output, a in zip(session.get_outputs(), answer, strict=True)}
    kinds: dict[str, int] = {
        name: helper.np_dtype_to_tensor_dtype(a.dtype) for name, a in zip(shapes, answer, strict=True)
    }
    batched = shape[0] is None and _takes_two(session, inputs[0].name, dtype, size)
    return PackageGraph(name, model, size, dtype, shapes, kinds, batched, session)


def input_shape(model: onnx.ModelProto) -> list[int | None]:
    """Lengths of the axes of a graph's first input, None where they are dynamic; empty where it has no input."""
    inputs = _inputs(model.graph)
    return [axis.dim_value or None for axis in inputs[0].type.tensor_type.shape.dim] if inputs else []


def load(path: Path, name: str = "weights.onnx") -> onnx.ModelProto:
    """The checked graph; external weights must be in files beside it. Raises ExportFailed."""
    try:
        if path.stat().st_size > _LARGEST:
            raise _too_large(name)
        model = onnx.load(path, load_external_data=False)
        files = [path.parent / beside for beside in beside_of(model, path, name)]
        if sum(file.stat().st_size for file in (path, *files)) > _LARGEST:
            raise _too_large(name)
        _check_operators(model, name)
        onnx.load_external_data_for_model(model, str(path.parent))  # first, because a shape can be among them
        onnx.checker.check_model(model, full_check=True)
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportFailed(f"{name} is not a valid ONNX graph.", hint="Export it again.") from error
    except (OSError, ValueError, RuntimeError) as error:  # onnx's own errors about files and offsets
        raise ExportFailed(f"{name} cannot be read.", hint="Export it again.") from error
    return model


def _check_operators(model: onnx.ModelProto, name: str) -> None:
    """Raise ExportFailed for operators of another opset than are known, or of a library's own."""
    if not model.graph.node:  # protobuf reads many a file of another format as a message without fields
        raise ExportFailed(
            f"{name} is not a valid ONNX graph: it holds no operator.",
            hint="Name a file as an exporter to ONNX writes it; plans, TFLite files and archives are none.",
        )
    opset = next((entry.version for entry in model.opset_import if entry.domain in _STANDARD), 0)
    if opset not in _OPSETS:
        raise ExportFailed(
            f"{name} is of ONNX opset {opset}, not one of {_OPSETS[0]} to {_OPSETS[-1]}.",
            hint="Export it again; most exporters take an option for it, as opset=17.",
        )
    foreign = next((n for n in model.graph.node if n.domain not in (*_STANDARD, *_OF_ONNXRUNTIME)), None)
    if foreign is not None:
        raise ExportFailed(
            f"{name} has operators that are not ONNX's own: {foreign.op_type[:40]} of {foreign.domain[:40]!r}.",
            hint=f"Export it without its library's plugins. {_CODE}",
        )


def _has_files(path: Path) -> bool:
    return any(_location(tensor) is not None for tensor in _tensors(onnx.load(path, load_external_data=False).graph))


def beside_of(model: onnx.ModelProto, path: Path, name: str) -> list[str]:
    """Names of the files beside ``path`` that hold weights of the graph, sorted. Raises ExportFailed for others."""
    found = sorted({location for location in map(_location, _tensors(model.graph)) if location is not None})
    for location in found:
        beside = path.parent / location
        inside = beside.resolve().is_relative_to(path.parent.resolve())
        if Path(location).is_absolute() or not inside or not beside.is_file():
            raise ExportFailed(
                f"{name} names a file of weights that is not in the package.",
                hint=f"Put it beside {name}, or save the graph as one file.",
            )
    return found


def _too_large(name: str) -> ExportFailed:
    return ExportFailed(f"{name} and its weights are larger than 2 GB.", hint=_CODE)


def _inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Every operator of a graph, those of branches and loops too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph, those of branches and loops too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def _location(tensor: onnx.TensorProto) -> str | None:
    if tensor.data_location != TensorProto.EXTERNAL:
        return None
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _run(graph: PackageGraph, name: str, images: np.ndarray) -> list[np.ndarray]:
    with refusing_what_cannot_run(graph.name):
        return graph.session.run(None, {name: images})


def _takes_two(session: onnxruntime.InferenceSession, name: str, dtype: type, size: tuple[int, int]) -> bool:
    """Whether a dynamic batch axis works: a constant inside the graph may still fix it to one picture."""
    try:
        with refusing_what_cannot_run():
            answer = session.run(None, {name: np.zeros((2, 3, *size), dtype=dtype)})
    except ExportFailed:
        return False
    return all(len(a) == 2 for a in answer)


# ---- wrapping ------------------------------------------------------------------------------------------------------


def wrap(graph: PackageGraph, before: str, after: str, path: Path) -> None:
    """Write the graph that takes uint8 ``pixels`` and gives canonical tensors.

    Args:
        before, after: ONNX functions in its text form: from ``pixels`` to ``images``, and from the package's outputs
            ``raw0``, ``raw1``, ... to the canonical tensors.
        path: of the file to write.

    Raises:
        ExportFailed: they do not fit together.
    """
    try:
        core = onnx.compose.add_prefix(graph.model if graph.batched else _one_by_one(graph), "package/")
        domains = ", ".join(f'"{entry.domain}": {entry.version}' for entry in core.opset_import)
        head = f"<ir_version: {core.ir_version}, opset_import: [{domains}]>\n"
        first, last = (onnx.parser.parse_model(head + text) for text in (before, after))
        merged = onnx.compose.merge_models(first, core, [("images", _inputs(core.graph)[0].name)])
        given = [(value.name, f"raw{i}") for i, value in enumerate(core.graph.output)]
        merged = onnx.compose.merge_models(merged, last, given)
    except (ValueError, TypeError, onnx.parser.ParseError, onnx.checker.ValidationError) as error:
        # TypeError: a name that is no UTF-8 is bytes
        raise ExportFailed(
            f"{graph.name} could not be joined with its preparation and its answer.", hint="Export it again."
        ) from error
    storage.save(merged, path)


def _one_by_one(graph: PackageGraph) -> onnx.ModelProto:
    """A graph for one picture as one for any number: the body of a Scan over the pictures."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    inner, source = model.graph, graph.input
    kind, sides = source.type.tensor_type.elem_type, [3, *graph.size]
    reshapes, alone, together = [], [], []
    weights = [*inner.initializer, helper.make_tensor("scan/one", TensorProto.INT64, [4], [1, *sides])]
    for name, (_, *shape) in graph.shapes.items():
        weights.append(helper.make_tensor(f"scan/{name}/shape", TensorProto.INT64, [len(shape)], shape))
        reshapes.append(helper.make_node("Reshape", [name, f"scan/{name}/shape"], [f"scan/{name}"]))
        alone.append(helper.make_tensor_value_info(f"scan/{name}", graph.kinds[name], shape))
        together.append(helper.make_tensor_value_info(f"scan/{name}/all", graph.kinds[name], ["batch", *shape]))
    nodes = [helper.make_node("Reshape", ["scan/picture", "scan/one"], [source.name]), *inner.node, *reshapes]
    picture = helper.make_tensor_value_info("scan/picture", kind, sides)
    pictures = helper.make_tensor_value_info("scan/pictures", kind, ["batch", *sides])
    body = helper.make_graph(nodes, "one_picture", [picture], alone, weights)
    scan = helper.make_node("Scan", [pictures.name], [value.name for value in together], body=body, num_scan_inputs=1)
    model.graph.CopyFrom(helper.make_graph([scan], "pictures", [pictures], together))
    return model
