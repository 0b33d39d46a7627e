"""The GPU that a TensorRT plan would run on, as NVIDIA's management library tells it."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one part of a GPU that is divided.

    Attributes:
        name: as the driver tells it, without the part.
        compute_capability: major and minor, as ``9.0``.
        mig: profile of the part (``1g.10gb``), empty for a whole GPU.
        cuda: newest version of CUDA that the driver knows, as ``13.0``.
        memory: bytes.
    """

    name: str
    compute_capability: str
    mig: str
    cuda: str
    memory: int = 0


def first(nvml: Any = None) -> Gpu | None:
    """The first GPU of this machine, or its first part where it is divided; None where none is to be seen.

    Args:
        nvml: the module ``pynvml``; imported when it is not given, and no module is as good as no GPU.
    """
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    try:
        return _first(nvml)
    except nvml.NVMLError:
        return None
    finally:
        nvml.nvmlShutdown()


def _first(nvml: Any) -> Gpu | None:
    if not nvml.nvmlDeviceGetCount():
        return None
    whole = nvml.nvmlDeviceGetHandleByIndex(0)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(whole)
    cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
    part = _part(nvml, whole)
    full_name = _text(nvml.nvmlDeviceGetName(part or whole))
    profile = re.search(r" MIG (\S+)$", full_name)
    return Gpu(
        full_name[: profile.start()] if profile else full_name, f"{major}.{minor}", profile[1] if profile else "",
        f"{cuda // 1000}.{cuda % 1000 // 10}", nvml.nvmlDeviceGetMemoryInfo(part or whole).total,
    )  # fmt: skip


def _part(nvml: Any, whole: Any) -> Any:
    """The first part of a GPU that is divided, else None."""
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(whole)
        if current != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
        return nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, 0)
    except nvml.NVMLError:  # not every GPU can be divided
        return None


def _text(value: str | bytes) -> str:
    """Older versions of the library give bytes."""
    return value.decode() if isinstance(value, bytes) else value
