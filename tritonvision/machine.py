"""What this machine can compute with: its processor's instructions, and the engines that are installed."""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from tritonvision import gpus, tuning
from tritonvision.cgroups import cores
from tritonvision.gpus import Gpu
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

# A CPU computes bf16 in hardware with one of these; without, an engine would compute fp32 and call it bf16.
_BF16 = {"avx512_bf16", "amx_bf16"}
_MODULES = {"onnxruntime": "onnxruntime", "openvino": "openvino", "tensorrt": "tensorrt"}


def bf16_flags() -> tuple[str, ...]:
    """The instructions for bf16 that the processor has."""
    return tuple(sorted(cpu_flags() & _BF16))


@functools.cache
def cpu_name() -> str:
    """The processor's name as the kernel tells it, or ``unknown CPU``."""
    return _cpuinfo("model name") or "unknown CPU"


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The processor's instruction sets as the kernel tells them, none where it does not."""
    return frozenset(_cpuinfo("flags").split())


@functools.cache
def gpu() -> Gpu | None:
    """The GPU of this machine, None where none is to be seen."""
    return gpus.first()


def why_not(engine: str, precision: str) -> str:
    """Why this machine cannot run a variant of that engine and precision: a sentence, empty where it can."""
    if importlib.util.find_spec(_MODULES[engine]) is None:
        return f"The package '{_MODULES[engine]}' is not installed."
    if engine == "tensorrt" and gpu() is None:
        return "No NVIDIA GPU is to be seen on this machine."
    if engine == "openvino" and precision == "bf16" and not bf16_flags():
        return f"The processor ({cpu_name()}) does not compute in bf16."
    return ""


@dataclass(frozen=True)
class Choice:
    """How a model's networks run on this machine.

    Attributes:
        variant: that runs; None where they run as they were exported.
        why_not: why that is not the one that its manifest names: a sentence, empty where it is.
    """

    variant: Variant | None
    why_not: str = ""


def choice(manifest: Manifest) -> Choice:
    """What this machine can run of what the manifest lets serve."""
    variant = manifest.serving_variant
    if variant is None:
        return Choice(None, f"There is no variant '{manifest.serving}'." if manifest.serving else "")
    missing = why_not(variant.engine, variant.precision)
    return Choice(None, missing) if missing else Choice(variant)


def tuning_here(manifest: Manifest) -> tuning.Tuning | None:
    """The tuning of a model where it was measured on a machine like this and its variant runs here, else None."""
    found = manifest.tuning
    if found is None or (found.machine, found.cores) != (cpu_name(), cores()) or choice(manifest).why_not:
        return None
    return found


def config_name(manifest: Manifest, variant: Variant | None) -> str:
    """With which of their configs a model's Triton models run here, as ``variant`` (None: as they were exported)."""
    if variant == manifest.serving_variant and tuning_here(manifest) is not None:
        return tuning.CONFIG
    return variant.name if variant else manifest.base_variant


def _cpuinfo(key: str) -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")
