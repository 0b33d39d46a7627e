"""How the steps of a public model are wired: every ``config.pbtxt``, built from Triton's own protobuf."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision.ensembles.heads import HeadKind, Tensor
from tritonvision.ensembles.resize import Resize

MAX_BATCH = 8
IMAGE = Tensor("image", "STRING", (1,))
PARAMETERS = Tensor("parameters", "STRING", (1,))
PIXELS = Tensor("pixels", "UINT8", (-1, -1, 3))
GEOMETRY = Tensor("geometry", "FP64", (6,))
IMAGE_SIZE = Tensor("image_size", "INT32", (2,))  # height, width of the oriented picture

_MODEL_PY = '''"""{line}"""

from tritonvision.python_backend.{module} import TritonPythonModel  # noqa: F401
'''


def net_name(name: str) -> str:
    """Triton name of the network behind the public model ``name``."""
    return f"net--{name}"


def step_names(name: str, resize: Resize, head: HeadKind) -> tuple[str, ...]:
    """The Triton models a public model needs, in the order they are loaded."""
    return resize.triton_name, head.triton_name, net_name(name)


def public_config(name: str, resize: Resize, head: HeadKind) -> str:
    """The ensemble pre -> net -> post that callers know as ``name``."""
    config = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=MAX_BATCH)
    _declare(config, (IMAGE, PARAMETERS), (*head.outputs, IMAGE_SIZE))
    pixels = [tensor.name for tensor in head.tensors]
    _step(config, resize.triton_name, ["image", "parameters"], ["pixels", "geometry"])
    _step(config, net_name(name), ["pixels"], pixels, rename="net_{}".format)
    _step(
        config, head.triton_name, [*pixels, "geometry", "parameters"],
        [tensor.name for tensor in (*head.outputs, IMAGE_SIZE)], rename_inputs={p: f"net_{p}" for p in pixels},
    )  # fmt: skip
    return text_format.MessageToString(config)


def net_config(name: str, resize: Resize, head: HeadKind, instances: int = 2, threads: int = 2) -> str:
    """The network itself on ONNX Runtime: uint8 pixels in, the head kind's canonical tensors out.

    Two instances of two threads that do not spin: the best single setting on two cores, one caller or many
    (benchmarks/RESULTS.md). The parameter names are those of Triton's native ONNX Runtime backend.
    """
    config = pb.ModelConfig(name=net_name(name), backend="onnxruntime", max_batch_size=MAX_BATCH)
    pixels = Tensor(PIXELS.name, PIXELS.dtype, (resize.height, resize.width, 3))
    _declare(config, (pixels,), head.tensors)
    _instances(config, instances)
    for key, value in {
        "intra_op_thread_count": str(threads),
        "inter_op_thread_count": "1",
        "session.intra_op.allow_spinning": "0",
    }.items():
        config.parameters[key].string_value = value
    return text_format.MessageToString(config)


def ensure_step(root: Path, step: Resize | HeadKind) -> str:
    """Write the shared step's Triton model below ``root`` unless it stands there already; returns its name."""
    folder = root / step.triton_name
    files = {"config.pbtxt": step_config(step), "1/model.py": _model_py(step)}
    for relative, text in files.items():
        path = folder / relative
        if not path.is_file() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return step.triton_name


def step_config(step: Resize | HeadKind) -> str:
    """The ``config.pbtxt`` of a shared pre or post step: two single-threaded processes on the CPU."""
    config = pb.ModelConfig(name=step.triton_name, backend="python", max_batch_size=MAX_BATCH)
    if isinstance(step, Resize):
        pixels = Tensor(PIXELS.name, PIXELS.dtype, (step.height, step.width, 3))
        _declare(config, (IMAGE, PARAMETERS), (pixels, GEOMETRY))
        rule = {"rule": step.rule, "height": step.height, "width": step.width, **dict(step.options)}
        config.parameters["resize"].string_value = json.dumps(rule)
    else:
        _declare(config, (*step.tensors, GEOMETRY, PARAMETERS), (*step.outputs, IMAGE_SIZE))
        config.parameters["head"].string_value = step.name
        config.parameters["schema_version"].string_value = str(step.version)
    _instances(config, 2)
    return text_format.MessageToString(config)


def _model_py(step: Resize | HeadKind) -> str:
    if isinstance(step, Resize):
        return _MODEL_PY.format(line="Encoded picture to pixels; the rule stands in config.pbtxt.", module="pre")
    return _MODEL_PY.format(line="Canonical tensors to answers; the head kind stands in config.pbtxt.", module="post")


def _declare(config: pb.ModelConfig, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
    for tensor in inputs:
        config.input.add(
            name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=tensor.dims, optional=tensor is PARAMETERS
        )
    for tensor in outputs:
        config.output.add(name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=tensor.dims)


def _instances(config: pb.ModelConfig, count: int) -> None:
    config.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=count)


def _step(
    config: pb.ModelConfig, model: str, inputs: Sequence[str], outputs: Sequence[str], *,
    rename=str, rename_inputs: dict[str, str] | None = None,
) -> None:  # fmt: skip
    step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    for name in inputs:
        step.input_map[name] = (rename_inputs or {}).get(name, name)
    for name in outputs:
        step.output_map[name] = rename(name)
