"""A graph that carries its precision, built into a serialised TensorRT plan by TensorRT's own API.

The calls are the same in TensorRT 10 and 11 and in TensorRT for RTX, whose package runs on a machine without a GPU: the
tests build with that one. Networks are strongly typed: which precision an operator computes in stands in the graph, and
no builder flag about precision is set (11 has none any more).
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonvision.errors import ExportFailed, SetupError
from tritonvision.exporters.tensorrt.profiles import Profile

log = logging.getLogger(__name__)

Progress = Callable[[str, float], bool]
"""Told the phase and the part of it that is done, 0 to 1; answers whether to go on."""


@dataclass(frozen=True)
class BuildOptions:
    """How a plan is built.

    Attributes:
        workspace: bytes of GPU memory that an operator may use; 0 for all there is.
        tf32: whether products of fp32 may be computed with mantissas of 10 bits. Off for a plan that is to answer as
            the fp32 graph does.
        hardware: GPUs that the plan runs on, one of :data:`tritonvision.variants.HARDWARE`.
        version_compatible: whether other versions of the same major TensorRT load it. Triton then has to be started
            with ``--backend-config=tensorrt,version-compatible=true``, and nobody else's plan should be loaded so.
        level: of optimisation, 0 to 5.
        timing_cache: a file that keeps what was measured, for the next build on the same GPU.
        capability: compute capability to build for, as ``8.9``, where no GPU is asked (TensorRT for RTX); empty for
            the GPU of this machine.
    """

    workspace: int = 0
    tf32: bool = False
    hardware: str = "this"
    version_compatible: bool = False
    level: int = 3
    timing_cache: Path | None = None
    capability: str = ""


_HARDWARE = {"this": "NONE", "same-capability": "SAME_COMPUTE_CAPABILITY", "ampere-plus": "AMPERE_PLUS"}


def library(name: str = "tensorrt") -> Any:
    """The module of TensorRT's bindings.

    Raises:
        SetupError: it is not installed, or does not find its libraries.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SetupError(
            "TensorRT is not installed here.",
            hint="Install the extra trt10 or trt11 on the machine with the GPU that will serve.",
        ) from error


def parse(trt: Any, graph: Path) -> tuple[Any, Any]:
    """A builder, and the network that TensorRT's own parser makes of the ONNX file ``graph``.

    Raises:
        ExportFailed: the parser refuses it; the sentence names the operator and says why.
    """
    builder = trt.Builder(_logger(trt))
    flags = trt.NetworkDefinitionCreationFlag
    network = builder.create_network(1 << int(flags.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, _logger(trt))
    if not parser.parse_from_file(str(graph)):
        raise ExportFailed(f"TensorRT's parser refuses the graph: {_why(parser)}.")
    return builder, network


def build_plan(
    graph: Path, profile: Profile, options: BuildOptions | None = None, progress: Progress | None = None,
    trt: Any = None,
) -> bytes:  # fmt: skip
    """The plan of the ONNX file ``graph``, as Triton's TensorRT backend loads it, nothing before or behind it.

    Args:
        progress: asked all the while whether to go on.
        trt: the bindings, those of this machine's TensorRT by default.

    Raises:
        SetupError: TensorRT is not installed.
        ExportFailed: the graph cannot be parsed or built, or ``progress`` said no; the sentence says which.
    """
    trt, options = trt or library(), options or BuildOptions()
    builder, network = parse(trt, graph)
    config = builder.create_builder_config()
    _set(trt, config, options)
    limits = builder.create_optimization_profile()
    for name, shapes in profile.inputs.items():
        limits.set_shape(name, *shapes)
    if config.add_optimization_profile(limits) < 0:
        raise ExportFailed("TensorRT refuses the bounds of the network's axes.", hint="See --max-batch.")
    cache = config.create_timing_cache(_read(options.timing_cache))
    if not config.set_timing_cache(cache, False):  # another GPU or version measured it
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    watch = _monitor(trt, progress)
    if watch is not None:
        config.progress_monitor = watch
    plan = builder.build_serialized_network(network, config)
    if watch is not None and watch.cancelled:
        raise ExportFailed("The building of the plan was ended.")
    if plan is None:
        raise ExportFailed("TensorRT could not build the plan.", hint="Its own words stand in the log.")
    if options.timing_cache is not None:
        _keep(options.timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _set(trt: Any, config: Any, options: BuildOptions) -> None:
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    config.builder_optimization_level = options.level
    config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, _HARDWARE[options.hardware])
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.capability:
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, f"SM{options.capability.replace('.', '')}"), 0)


@functools.cache
def _logger(trt: Any) -> Any:
    """One for the whole process: TensorRT takes the first it is given, whoever else brings one."""

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            trouble = severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR)
            log.log(logging.ERROR if trouble else logging.DEBUG, "TensorRT: %s", message)

    return Logger()


def _monitor(trt: Any, progress: Progress | None) -> Any:
    """What TensorRT tells how far it is; only the outermost phases are passed on."""
    if progress is None:
        return None
    told = progress

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self._steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._steps and not self.cancelled:
                done = (step + 1) / max(self._steps[phase_name], 1)
                self.cancelled = not told(phase_name, min(done, 1.0))
            return not self.cancelled

        def phase_finish(self, phase_name: str) -> None:
            self._steps.pop(phase_name, None)

    return Monitor()


def _why(parser: Any) -> str:
    """The first of the parser's errors in one line: operator, its type, reason."""
    if not parser.num_errors:
        return "it does not say why"
    error = parser.get_error(0)
    reason = " ".join(str(error.desc()).split())
    name, operator = error.node_name(), error.node_operator()
    return f"{operator or 'operator'} '{name}': {reason[:300]}" if name else reason[:300]


def _read(path: Path | None) -> bytes:
    try:
        return b"" if path is None else path.read_bytes()
    except FileNotFoundError:
        return b""


def _keep(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(data)
    fresh.rename(path)
