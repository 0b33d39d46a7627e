"""Published models read back from their repository: their entry points, the files behind them, and all of it opened in
this process. No family and no weights take part, so what a user published years ago is read like anything else.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision.ensembles import model_configs
from tritonvision.ensembles.entry_points import (
    GRAPH,
    Chain,
    Chat,
    Composition,
    EngineChat,
    EntryPoint,
    LocalCode,
    Net,
    SequenceBatching,
    TextPreprocess,
)
from tritonvision.ensembles.in_process import Ask, LocalChat, LocalComposition, LocalPipeline, open_entry_points
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import HEADS, Head, OutputSchema, Postprocessor
from tritonvision.ensembles.tensors import BATCH, GEOMETRY, IMAGE, IMAGE_SIZE, MAX_BATCH, PARAMETERS, Tensor
from tritonvision.errors import BrokenModel
from tritonvision.pictures import decode
from tritonvision.publication import Manifest, Repository
from tritonvision.python_backend.runtime.onnxruntime_session import ERRORS
from tritonvision.tasks import TASKS
from tritonvision.variants import Variant

CONFIGS = "configs"  # Triton's own name for a folder of configs to choose from
_ONNX_TYPES = {
    "float": "FP32", "double": "FP64", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16",
    "float16": "FP16", "bool": "BOOL", "string": "STRING",
}  # fmt: skip


def entry_points_of(repository: Path, manifest: Manifest) -> tuple[EntryPoint, ...]:
    """The entry points of a published model, the model itself first, with their networks as they were exported.

    They equal those that its family declared. What was published before ``bounds`` were has none.

    Raises:
        BrokenModel: a config is missing or cannot be read.
    """
    return tuple(_entry_point(repository, manifest, role) for role in manifest.roles)


def graphs_of(repository: Path, manifest: Manifest, points: Iterable[EntryPoint]) -> dict[str, Path]:
    """The file of each network of these entry points, by role: its ONNX graph, or what its engine reads instead."""
    return {
        net.role: repository / model_configs.graph_path(manifest.triton_name, point, net)
        for point in points
        for net in point.nets
    }


def assets_of(repository: Path, manifest: Manifest, point: EntryPoint) -> dict[str, bytes]:
    """The files that an entry point needs beside its graphs, by name: a tokenizer, a vocabulary."""
    if isinstance(point, Chain):
        names = [model_configs.TOKENIZER] if isinstance(point.pre, TextPreprocess) else []
        folder = repository / point.pre.triton_name / "1"
    elif isinstance(point, LocalCode | EngineChat):
        return {}
    else:
        name = model_configs.entry_point_name(manifest.triton_name, point.role)
        names = json.loads(_parameters(read_config(repository / name, manifest)).get("assets", "[]"))
        folder = repository / name / "1"
    try:
        return {name: (folder / name).read_bytes() for name in names}
    except OSError as error:
        raise _broken(manifest) from error


def replaceable(point: EntryPoint) -> tuple[str, ...]:
    """Roles of the networks that a variant may run: all but those that keep tensors in onnxruntime between two runs
    (decoders with a cache) and tables of embeddings, which compute nothing.
    """
    if not model_configs.embedded(point):
        return tuple(net.role for net in point.nets)
    return tuple(
        net.role
        for net in point.nets
        if not any(tensor.name.startswith("past") for tensor in net.inputs)
        and not any(tensor.name == "inputs_embeds" for tensor in net.outputs)
    )


def decoders(point: EntryPoint) -> tuple[str, ...]:
    """Roles of the networks of a model that writes which read embeddings, keys and values: what each token costs."""
    if not isinstance(point, Chat):
        return ()
    inputs = {net.role: {tensor.name.partition(".")[0] for tensor in net.inputs} for net in point.nets}
    return tuple(role for role, names in inputs.items() if {"inputs_embeds", "past_key_values"} <= names)


def plan_batch(point: EntryPoint, net: Net, asked: int = 0) -> int:
    """Samples of one execution that a TensorRT plan of the network ``net`` is built for.

    One where pixels follow the picture: pictures of different sizes never share an execution, and memory is held for
    the largest. But behind an ensemble never fewer than the ensemble takes, or Triton refuses the ensemble.
    """
    follows_picture = any(tensor.dims.count(-1) > 1 for tensor in net.inputs)
    wanted = asked or (1 if follows_picture else net.max_batch)
    return max(wanted, MAX_BATCH) if isinstance(point, Chain) else wanted


def as_variant(point: EntryPoint, variant: Variant) -> EntryPoint:
    """The entry point with those of its networks that ``variant`` names run as it says."""
    if isinstance(point, LocalCode | EngineChat):
        return point

    def how(net: Net) -> dict[str, Any]:
        file = variant.file(net.role if model_configs.embedded(point) else "") or GRAPH
        return {"engine": variant.engine, "precision": variant.precision, "file": file} | on_gpu(net)

    def on_gpu(net: Net) -> dict[str, Any]:
        if variant.engine != "tensorrt":
            return {}
        batch = {"max_batch": plan_batch(point, net, variant.max_batch)}
        return batch if isinstance(point, Chain) else batch | {"device": "gpu"}

    if isinstance(point, Chain):
        return replace(point, **how(point.net)) if point.net.role in variant.networks else point
    nets = tuple(replace(net, **how(net)) if net.role in variant.networks else net for net in point.nets)
    return replace(point, nets=nets)


def open_published(
    repository: Path, manifest: Manifest, variant: Variant | None = None, files: Mapping[str, Path] | None = None
) -> dict[str, LocalPipeline | LocalComposition | LocalChat]:
    """The entry points of a published model in this process, by role; models that it needs are opened beside it.

    Args:
        variant: how its networks run; None as they were exported.
        files: of networks, by role, that lie elsewhere than where the variant is published.

    Raises:
        BrokenModel: a file is missing or cannot be read, of this model or of one that it needs.
        SetupError: this machine lacks the engine or the precision.
    """
    points = entry_points_of(repository, manifest)
    if variant is not None:
        points = tuple(as_variant(point, variant) for point in points)
    graphs = graphs_of(repository, manifest, points) | dict(files or {})
    models = {need: asked(repository, need) for need in manifest.needs}
    ours = [point for point in points if not isinstance(point, LocalCode | EngineChat)]
    return open_entry_points(graphs, ours, lambda point: assets_of(repository, manifest, point), models)


def asked(repository: Path, model_id: str) -> Ask:
    """How to ask the published model ``model_id``, in this process, about one encoded picture, as Triton is asked.

    Raises:
        BrokenModel: it is not published, or a file of it is missing.
    """
    manifest = Repository(repository).get(model_id)
    if manifest is None:
        raise BrokenModel(f"'{model_id}' is not published here.", hint=f"Publish it: tritonvision export {model_id}")
    pipeline = open_published(repository, manifest)[""]
    assert not isinstance(pipeline, LocalChat), "no model asks one that writes"

    def ask(inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> dict[str, np.ndarray]:
        picture = decode(inputs["image"].reshape(-1)[0])
        given = inputs["parameters"].reshape(-1)[0] if "parameters" in inputs else "{}"
        found = pipeline(picture, json.loads(given))
        found["image_size"] = np.array(picture.shape[:2], dtype=np.int32)
        return {name: found[name][None] for name in outputs}

    return ask


def read_config(folder: Path, manifest: Manifest) -> Any:
    """The ``ModelConfig`` of one Triton model of ``manifest`` as it was published first, whichever variant serves.

    Raises:
        BrokenModel: there is none, or it cannot be read.
    """
    base = folder / CONFIGS / f"{manifest.base_variant}.pbtxt"
    try:
        text = (base if base.is_file() else folder / "config.pbtxt").read_text(encoding="utf-8")
        return text_format.Parse(text, pb.ModelConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise _broken(manifest) from error


def _entry_point(repository: Path, manifest: Manifest, role: str) -> EntryPoint:
    folder = repository / model_configs.entry_point_name(manifest.triton_name, role)
    config = read_config(folder, manifest)
    try:
        if config.platform == "ensemble":
            return _chain(repository, manifest, config, role)
        parameters = _parameters(config)
        if "composition" in parameters:
            return _composition(repository, manifest, config, role)
        if "module" in parameters:
            options = _pairs(json.loads(parameters["options"]))
            nets = _sessions(folder, parameters, config.instance_group[0].count)
            version = int(parameters["schema_version"])
            return Chat(parameters["module"], nets, options, manifest.input_size, version, role)
        if "engine" in parameters:
            return EngineChat(parameters["engine"], _pairs(json.loads(parameters["options"])))
        environment = parameters.get("EXECUTION_ENV_PATH", "").rpartition("/")[2]
        options = _pairs(json.loads(parameters["options"]))
        return LocalCode(TASKS[parameters["task"]], _tensors(config.output), options, environment)
    except (KeyError, IndexError, TypeError, StopIteration, ModuleNotFoundError, *ERRORS) as error:
        raise _broken(manifest) from error


def _chain(repository: Path, manifest: Manifest, config: Any, role: str) -> Chain:
    """An ensemble: pre step, network, post step, or the token step of a text and its network."""
    names = [step.model_name for step in config.ensemble_scheduling.step]
    pre, net, *post = (read_config(repository / name, manifest) for name in names)
    instances = net.instance_group[0].count
    if post:
        head = _head(post[0], manifest.head if not role else "")
        own = net.name == model_configs.net_name(manifest.triton_name, role)
        if not own:
            shared = net.name.removeprefix(model_configs.net_name(manifest.triton_name)).removeprefix("--")
            return Chain(_resize(pre), head, role, instances, shares=shared)
        emitted = _tensors(net.output, without=[tensor.name for tensor in head.tensors])
        return Chain(_resize(pre), head, role, instances, more=emitted)
    name, _, context = pre.name.removeprefix("tokens--").rpartition("-")
    emitted = _tensors(config.output)
    head = next(head for head in HEADS.values() if head.tensors == emitted == head.outputs)
    return Chain(TextPreprocess(name, int(context)), head, role, instances)


def _resize(config: Any) -> Resize:
    facts = json.loads(_parameters(config)["resize"])
    rule, height, width = (facts.pop(name) for name in ("rule", "height", "width"))
    return Resize(rule, height, width, _pairs(facts))


def _head(config: Any, schema: str) -> Head:
    """What a post step makes of a network's tensors.

    Args:
        schema: name of the output schema, empty where it is called as the postprocessor.
    """
    parameters = _parameters(config)
    name = parameters["head"]
    module = importlib.import_module(f"tritonvision.python_backend.postprocess.{name.replace('-', '_')}")
    tensors = _tensors(config.input, without=(GEOMETRY.name, PARAMETERS.name))
    outputs = _tensors(config.output, without=(IMAGE_SIZE.name,))
    options = _pairs(json.loads(parameters.get("options", "{}")))
    version = int(parameters.get("schema_version", 1))
    return Head(
        OutputSchema(schema or name, version, module.TASK, outputs), Postprocessor(name, tensors, module.post, options)
    )


def _composition(repository: Path, manifest: Manifest, config: Any, role: str) -> Composition:
    parameters = _parameters(config)
    folder = repository / config.name
    called = parameters["composition"]
    name = called if role else manifest.head
    instances = config.instance_group[0].count
    embedded = "sessions" in parameters
    if embedded:
        nets = _sessions(folder, parameters, instances)
    else:
        where = json.loads(parameters.get("nets", "{}"))
        nets = tuple(_net(net, read_config(repository / model, manifest)) for net, model in where.items())
    inputs = _tensors(config.input)
    return Composition(
        name=name, version=int(parameters["schema_version"]), nets=nets, outputs=_tensors(config.output),
        task=importlib.import_module(
            f"tritonvision.python_backend.compositions.{called.replace('-', '_')}"
        ).TASK,
        extra_inputs=tuple(tensor for tensor in inputs if tensor.name not in (IMAGE.name, PARAMETERS.name)),
        options=_pairs(json.loads(parameters["options"])), needs=manifest.needs, instances=instances,
        size=manifest.input_size, role=role, embedded=embedded, module="" if called == name else called,
        image_optional=any(tensor.optional for tensor in inputs if tensor.name == IMAGE.name),
        sequence=SequenceBatching(**json.loads(parameters["sequence"])) if "sequence" in parameters else None,
    )  # fmt: skip


def _net(role: str, config: Any) -> Net:
    group = config.instance_group[0]
    device = "gpu" if group.kind == pb.ModelInstanceGroup.KIND_GPU else "cpu"
    bounds = json.loads(_parameters(config).get(model_configs.BOUNDS, "{}"))
    inputs = tuple(
        replace(tensor, bounds=tuple(tuple(axis) for axis in bounds.get(tensor.name, ())))
        for tensor in _tensors(config.input)
    )
    return Net(
        role, inputs, _tensors(config.output), group.count, config.backend, device,
        config.max_batch_size,
    )  # fmt: skip


def _sessions(folder: Path, parameters: Mapping[str, str], instances: int) -> tuple[Net, ...]:
    """The networks of a process that opens them itself: no config tells their tensors, so the graphs are asked."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is only looked at
    options.log_severity_level = 3
    found = []
    for role, file in json.loads(parameters["sessions"]).items():
        session = onnxruntime.InferenceSession(str(folder / "1" / file), options, providers=["CPUExecutionProvider"])
        inputs, outputs = (
            tuple(_onnx_tensor(value) for value in values) for values in (session.get_inputs(), session.get_outputs())
        )
        found.append(Net(role, inputs, outputs, instances))
    return tuple(found)


def _onnx_tensor(value: Any) -> Tensor:
    """An input or output of an onnxruntime session, without its batch axis."""
    dtype = _ONNX_TYPES[value.type.removeprefix("tensor(").removesuffix(")")]
    axes = [axis if isinstance(axis, int) else -1 for axis in value.shape]
    batch_axis = value.shape.index(BATCH) if BATCH in value.shape else 0
    del axes[batch_axis]
    return Tensor(value.name, dtype, tuple(axes), batch_axis=batch_axis)


def _tensors(declared: Iterable[Any], without: Iterable[str] = ()) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(
            tensor.name, pb.DataType.Name(tensor.data_type).removeprefix("TYPE_"), tuple(tensor.dims),
            getattr(tensor, "optional", False),
        )
        for tensor in declared
        if tensor.name not in without
    )  # fmt: skip


def _parameters(config: Any) -> dict[str, str]:
    return {name: parameter.string_value for name, parameter in config.parameters.items()}


def _pairs(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options as families write them: JSON has lists where they have tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in options.items())


def _broken(manifest: Manifest) -> BrokenModel:
    return BrokenModel(
        f"The files of '{manifest.id}' are not those that were published.", hint="Publish it again with --force."
    )
