"""Every ``config.pbtxt`` of a public model and its steps, built with Triton's own protobuf classes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

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
from tritonvision.ensembles.preprocessing import Resize
from tritonvision.ensembles.schemas import Head
from tritonvision.ensembles.tensors import GEOMETRY, IMAGE, IMAGE_SIZE, MAX_BATCH, PARAMETERS, TEXT, Tensor
from tritonvision.publication import MANIFEST_PARAMETER, Manifest
from tritonvision.python_backend.runtime.sequences import SEQUENCE_END, SEQUENCE_ID, SEQUENCE_START
from tritonvision.queue_policy import bound_queue
from tritonvision.tuning import THREADS

TOKENIZER = "tokenizer.json"
BOUNDS = "bounds"  # parameter of a network: between which lengths its free axes lie, by input

_MODEL_PY = '''"""{line}"""

from tritonvision.python_backend.{module} import TritonPythonModel  # noqa: F401
'''

Step = Resize | Head | TextPreprocess


def net_name(name: str, role: str = "") -> str:
    """Triton name of a network behind the public model ``name``."""
    return f"net--{name}--{role}" if role else f"net--{name}"


def entry_point_name(name: str, role: str = "") -> str:
    """Triton name of an entry point of the public model ``name``."""
    return f"{name}--{role}" if role else name


def shared_steps(point: EntryPoint) -> tuple[Step, ...]:
    """The steps that an entry point shares with others of their kind."""
    if not isinstance(point, Chain):
        return ()
    return (point.pre,) if isinstance(point.pre, TextPreprocess) else (point.pre, point.head)


def step_names(name: str, points: Sequence[EntryPoint]) -> tuple[str, ...]:
    """The Triton models a public model needs, its further entry points at the end, each after what it needs."""
    shared = [step.triton_name for point in points for step in shared_steps(point)]
    nets = [net_name(name, net.role) for point in points for net in point.nets if not embedded(point)]
    return tuple(dict.fromkeys((*shared, *nets)))


def embedded(point: EntryPoint) -> bool:
    """Whether the networks of an entry point are sessions of its own process, see :func:`net_file`."""
    return not isinstance(point, Chain) and point.embedded


def net_file(role: str) -> str:
    """Name of the ONNX file of an embedded network, beside the ``model.py`` that opens it."""
    return f"{role or 'model'}.onnx"


def session_file(net: Net) -> str:
    """Name of the file of an embedded network as it runs: its graph, or what its engine reads instead."""
    return net_file(net.role) if net.file == GRAPH else net.file


def graph_path(name: str, point: EntryPoint, net: Net) -> str:
    """Where the file of a network of the public model ``name`` lies below the repository."""
    if embedded(point):
        return f"{entry_point_name(name, point.role)}/1/{session_file(net)}"
    return f"{net_name(name, net.role)}/1/{net.file}"


def public_config(name: str, point: EntryPoint, assets: Iterable[str] = (), manifest: Manifest | None = None) -> str:
    """The entry point that callers know as :func:`entry_point_name`.

    Args:
        assets: the files beside its ``model.py``.
        manifest: of the model, for the entry point that is the model itself: a client of a Triton whose repository it
            cannot read takes the manifest from the config.
    """
    if isinstance(point, Chain):
        config = _ensemble(name, point)
    elif isinstance(point, LocalCode):
        config = _local_code(name, point)
    elif isinstance(point, EngineChat):
        config = _engine_chat(name, point)
    else:
        config = _chat(name, point) if isinstance(point, Chat) else _composition(name, point)
        config.parameters["assets"].string_value = json.dumps(sorted(assets))
    if manifest is not None:
        config.parameters[MANIFEST_PARAMETER].string_value = manifest.to_json()
    return text_format.MessageToString(config)


def _ensemble(name: str, chain: Chain) -> pb.ModelConfig:
    config = pb.ModelConfig(
        name=entry_point_name(name, chain.role), platform="ensemble", max_batch_size=MAX_BATCH
    )
    net, tensors = net_name(name, chain.net.role), [tensor.name for tensor in chain.head.tensors]
    fed = [tensor.name for tensor in chain.pre.tensors]
    if isinstance(chain.pre, TextPreprocess):
        _declare(config, (TEXT, PARAMETERS), chain.head.tensors)
        _step(config, chain.pre.triton_name, ["text", "parameters"], fed)
        _step(config, net, fed, tensors)
        return config
    _declare(config, (IMAGE, PARAMETERS), (*chain.head.outputs, IMAGE_SIZE))
    _step(config, chain.pre.triton_name, ["image", "parameters"], [*fed, "geometry"])
    _step(config, net, fed, tensors, rename="net_{}".format)
    _step(
        config, chain.head.triton_name, [*tensors, "geometry", "parameters"],
        [tensor.name for tensor in (*chain.head.outputs, IMAGE_SIZE)], rename_inputs={t: f"net_{t}" for t in tensors},
    )  # fmt: skip
    return config


def _composition(name: str, point: Composition) -> pb.ModelConfig:
    """A Python model that takes one request at a time in each of its processes, without a batch axis of its own."""
    config = pb.ModelConfig(name=entry_point_name(name, point.role), backend="python", max_batch_size=MAX_BATCH)
    _declare(config, point.inputs, point.outputs)
    _instances(config, point.instances)
    config.parameters["composition"].string_value = point.module or point.name
    config.parameters["schema_version"].string_value = str(point.version)
    config.parameters["options"].string_value = json.dumps(dict(point.options))
    if point.embedded:
        config.parameters["sessions"].string_value = sessions(point)
    else:
        where = {net.role: net_name(name, net.role) for net in point.nets}
        config.parameters["nets"].string_value = json.dumps(where)
    if point.sequence is not None:
        _remember(config, point.sequence)
    return config


def _remember(config: pb.ModelConfig, sequence: SequenceBatching) -> None:
    """Let Triton send all requests of a sequence to one process, one after another.

    Of its two strategies ``oldest`` is the one that does not make a process wait for requests of other sequences.
    """
    config.ClearField("dynamic_batching")  # a sequence's queue is its own; Triton takes one scheduler
    batching = config.sequence_batching
    batching.max_sequence_idle_microseconds = sequence.idle_seconds * 1_000_000
    batching.oldest.max_candidate_sequences = sequence.most
    control = pb.ModelSequenceBatching.Control
    for name, kind in ((SEQUENCE_START, control.CONTROL_SEQUENCE_START), (SEQUENCE_END, control.CONTROL_SEQUENCE_END)):
        batching.control_input.add(name=name).control.add(kind=kind, int32_false_true=(0, 1))
    batching.control_input.add(name=SEQUENCE_ID).control.add(
        kind=control.CONTROL_SEQUENCE_CORRID, data_type=pb.TYPE_UINT64
    )
    config.parameters["sequence"].string_value = json.dumps(asdict(sequence))


def _chat(name: str, point: Chat) -> pb.ModelConfig:
    """A Python model that answers a request with many responses, with no bound on concurrent requests."""
    config = pb.ModelConfig(name=entry_point_name(name, point.role), backend="python", max_batch_size=0)
    config.model_transaction_policy.decoupled = True
    _declare(config, point.inputs, point.outputs)
    _instances(config, point.instances)
    config.parameters["module"].string_value = point.module
    config.parameters["schema_version"].string_value = str(point.version)
    config.parameters["options"].string_value = json.dumps(dict(point.options))
    config.parameters["sessions"].string_value = sessions(point)
    return config


def _engine_chat(name: str, point: EngineChat) -> pb.ModelConfig:
    """A Python model that passes each request on to the engine, and its responses back."""
    config = pb.ModelConfig(name=name, backend="python", max_batch_size=0)
    config.model_transaction_policy.decoupled = True
    _declare(config, point.inputs, point.outputs)
    _instances(config, point.instances)
    config.parameters["engine"].string_value = point.engine
    config.parameters["options"].string_value = json.dumps(dict(point.options))
    return config


def sessions(point: Composition | Chat) -> str:
    """JSON: of each embedded network its graph, or, where that does not run as it was exported, how it does."""
    found: dict[str, str | dict[str, str]] = {}
    for net in point.nets:
        file = session_file(net)
        as_exported = net.engine == "onnxruntime" and net.precision == "fp32"
        found[net.role] = file if as_exported else {"file": file, "engine": net.engine, "precision": net.precision}
    return json.dumps(found)


def _local_code(name: str, point: LocalCode) -> pb.ModelConfig:
    """A Python model of one process, which may have a Python environment of its own."""
    config = pb.ModelConfig(name=name, backend="python", max_batch_size=MAX_BATCH)
    _declare(config, point.inputs, point.outputs)
    _instances(config, point.instances)
    config.parameters["task"].string_value = point.task.name
    config.parameters["schema_version"].string_value = str(point.version)
    config.parameters["options"].string_value = json.dumps(dict(point.options))
    if point.environment:  # Triton's own name, and its word for the folder of the model
        config.parameters["EXECUTION_ENV_PATH"].string_value = f"$$TRITON_MODEL_DIRECTORY/1/{point.environment}"
    return config


def net_config(name: str, net: Net, threads: int = 2) -> str:
    """A network on its engine.

    Two instances of two threads that do not spin: the fastest single setting on two cores, with one caller and with
    many (benchmarks/RESULTS.md). A network with a variable input size, or with one process, gives up its working
    memory after each run; otherwise it would keep what the largest picture needed. The parameter names are those of
    the engines' native Triton backends.
    """
    config = pb.ModelConfig(name=net_name(name, net.role), backend=net.engine, max_batch_size=net.max_batch)
    if net.file != GRAPH or net.engine == "openvino":  # whose native backend looks for a model.xml
        config.default_model_filename = net.file
    _declare(config, net.inputs, net.outputs)
    _instances(config, net.instances, net.device)
    if net.engine == "tensorrt":
        _batch_on_gpu(config, net)
    bounds = {tensor.name: tensor.bounds for tensor in net.inputs if tensor.bounds}
    if bounds:
        config.parameters[BOUNDS].string_value = json.dumps(bounds)
    for key, value in _ENGINE_SETTINGS[net.engine](net, threads).items():
        config.parameters[key].string_value = value
    return text_format.MessageToString(config)


def _batch_on_gpu(config: pb.ModelConfig, net: Net) -> None:
    """Let a plan run whole batches, from one launch where its shapes allow that, and run once before it is ready.

    A GPU answers eight samples nearly as soon as one, so requests wait half a millisecond for each other. A CUDA graph
    holds one shape for each batch size: a network whose axes follow the request would record one for every picture.
    """
    config.dynamic_batching.preferred_batch_size[:] = [net.max_batch]
    if net.max_batch > 1:
        config.dynamic_batching.max_queue_delay_microseconds = 500
    fixed = all(-1 not in tensor.dims for tensor in net.inputs)
    config.optimization.cuda.graphs = fixed
    config.optimization.cuda.output_copy_stream = True
    if not fixed:
        return
    for batch in sorted({1, net.max_batch}):
        warmup = config.model_warmup.add(name=f"batch of {batch}", batch_size=batch)
        for tensor in net.inputs:
            example = warmup.inputs[tensor.name]
            example.data_type, example.zero_data = pb.DataType.Value(f"TYPE_{tensor.dtype}"), True
            example.dims[:] = tensor.dims


def _onnxruntime_settings(net: Net, threads: int) -> dict[str, str]:
    settings = {
        "intra_op_thread_count": str(threads),
        "inter_op_thread_count": "1",
        "session.intra_op.allow_spinning": "0",
    }
    if _hands_memory_back(net):
        settings["memory.enable_memory_arena_shrinkage"] = "cpu:0"
    return settings


def _openvino_settings(net: Net, threads: int) -> dict[str, str]:
    settings = {"NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": str(threads)}
    if net.precision == "bf16" and net.file == GRAPH:  # a file of its own has a type for each operation
        settings["HINT_BF16"] = "YES"
    if _hands_memory_back(net):
        settings["RELEASE_MEMORY"] = "YES"  # ours: the native backend passes over it
    return settings


def _hands_memory_back(net: Net) -> bool:
    return net.instances == 1 or any(tensor.dims.count(-1) > 1 for tensor in net.inputs)


def _tensorrt_settings(net: Net, threads: int) -> dict[str, str]:
    """None: everything about a plan stands in it, and in what Triton's own fields say of batches and launches."""
    return {}


_ENGINE_SETTINGS = {
    "onnxruntime": _onnxruntime_settings, "openvino": _openvino_settings, "tensorrt": _tensorrt_settings,
}  # fmt: skip


def tune_config(config: pb.ModelConfig, instances: int, threads: int, delay: float) -> None:
    """Let a network run in ``instances`` processes of ``threads`` threads each.

    Args:
        threads: 0 leaves them as they are, and so does an engine without such a parameter.
        delay: milliseconds that a request may wait for others to share its run; 0 runs each by itself.
    """
    for group in config.instance_group:
        group.count = instances
    if threads and config.backend in THREADS:
        config.parameters[THREADS[config.backend]].string_value = str(threads)
    config.ClearField("dynamic_batching")  # its queue is as long as there are processes
    if bound_queue(config) and delay:
        config.dynamic_batching.ClearField("preferred_batch_size")
        config.dynamic_batching.max_queue_delay_microseconds = round(1000 * delay)


def ensure_step(root: Path, step: Step, assets: Mapping[str, bytes] | None = None) -> str:
    """Write the shared step's Triton model below ``root`` unless it stands there already; returns its name.

    Args:
        assets: files that go beside its ``model.py``, by name.
    """
    folder = root / step.triton_name
    files = {"config.pbtxt": step_config(step).encode(), "1/model.py": _model_py(step).encode()}
    files |= {f"1/{name}": data for name, data in (assets or {}).items()}
    for relative, data in files.items():
        path = folder / relative
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    return step.triton_name


def step_config(step: Step) -> str:
    """The ``config.pbtxt`` of a shared step: two single-threaded processes on the CPU."""
    config = pb.ModelConfig(name=step.triton_name, backend="python", max_batch_size=MAX_BATCH)
    if isinstance(step, Resize):
        _declare(config, (IMAGE, PARAMETERS), (*step.tensors, GEOMETRY))
        rule = {"rule": step.rule, "height": step.height, "width": step.width, **dict(step.options)}
        config.parameters["resize"].string_value = json.dumps(rule)
    elif isinstance(step, TextPreprocess):
        _declare(config, (TEXT, PARAMETERS), step.tensors)
        config.parameters["tokenizer"].string_value = TOKENIZER
        config.parameters["context"].string_value = str(step.context)
    else:
        _declare(config, (*step.tensors, GEOMETRY, PARAMETERS), (*step.outputs, IMAGE_SIZE))
        config.parameters["head"].string_value = step.postprocessor.name
        config.parameters["schema_version"].string_value = str(step.schema.version)
        if step.postprocessor.options:
            config.parameters["options"].string_value = json.dumps(dict(step.postprocessor.options))
    _instances(config, 1 if isinstance(step, TextPreprocess) else 2)
    return text_format.MessageToString(config)


def entry_point_py(point: Composition | Chat | LocalCode | EngineChat) -> str:
    """The ``model.py`` of an entry point that is a Python model."""
    if isinstance(point, LocalCode):
        return _MODEL_PY.format(line="Runs the code of a package; which, stands in config.pbtxt.", module="local_code")
    if isinstance(point, EngineChat):
        return _MODEL_PY.format(line="Asks the engine that config.pbtxt names.", module="vllm_adapter")
    if isinstance(point, Chat):
        return _MODEL_PY.format(line="Writes answers token by token; how, stands in config.pbtxt.", module="chat")
    return _MODEL_PY.format(line="Asks networks and models; which, stands in config.pbtxt.", module="composition")


def _model_py(step: Step) -> str:
    if isinstance(step, Resize):
        return _MODEL_PY.format(line="Encoded picture to pixels; the rule stands in config.pbtxt.", module="pre")
    if isinstance(step, TextPreprocess):
        return _MODEL_PY.format(line="Text to token ids; the vocabulary lies beside this file.", module="tokens")
    return _MODEL_PY.format(line="Canonical tensors to answers; the head kind stands in config.pbtxt.", module="post")


def _declare(config: pb.ModelConfig, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
    for tensor in inputs:
        config.input.add(
            name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=tensor.dims, optional=tensor.optional
        )
    for tensor in outputs:
        config.output.add(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=tensor.dims)


def _instances(config: pb.ModelConfig, count: int, device: str = "cpu") -> None:
    kinds = {"cpu": pb.ModelInstanceGroup.KIND_CPU, "gpu": pb.ModelInstanceGroup.KIND_GPU}
    config.instance_group.add(kind=kinds[device], count=count)
    bound_queue(config)


def _step(
    config: pb.ModelConfig, model: str, inputs: Sequence[str], outputs: Sequence[str], *,
    rename=str, rename_inputs: dict[str, str] | None = None,
) -> None:  # fmt: skip
    step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    for name in inputs:
        step.input_map[name] = (rename_inputs or {}).get(name, name)
    for name in outputs:
        step.output_map[name] = rename(name)
