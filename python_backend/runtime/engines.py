"""A network's file opened by the engine that runs it; an engine is imported when the first network asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from tritonvision.errors import SetupError
from tritonvision.machine import why_not

_MODULES = {
    "onnxruntime": "onnxruntime_session", "openvino": "openvino_session", "tensorrt": "tensorrt_session",
}  # fmt: skip


class NetworkSession(Protocol):
    """An open network. ONNX Runtime's own ``InferenceSession`` is one."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        """The arrays ``outputs``, in that order, for ``inputs``, all with a batch axis first. They are the caller's."""
        ...


def open_network(
    path: Path, engine: str = "onnxruntime", precision: str = "fp32", threads: int = 0, *, spin: bool = True
) -> NetworkSession:
    """The network in the file ``path``, on the CPU.

    Args:
        engine: one of :data:`tritonvision.variants.ENGINES`.
        precision: of the arithmetic; of int8 the file itself says which layers.
        threads: for one operator, 0 leaves their number to the engine.
        spin: whether ONNX Runtime's threads wait actively for the next operator.

    Raises:
        SetupError: this machine lacks the engine or the precision.
        BrokenModel: the file is none of a network.
    """
    require(engine, precision)
    module = importlib.import_module(f"tritonvision.python_backend.runtime.{_MODULES[engine]}")
    return module.open_session(path, precision, threads, spin=spin)


def require(engine: str, precision: str) -> None:
    """Raise SetupError where no process of this machine can run a network so."""
    if engine not in _MODULES:
        raise SetupError(f"No network runs on '{engine}' in this process.", hint=f"Engines: {', '.join(_MODULES)}.")
    missing = why_not(engine, precision)
    if missing:
        raise SetupError(missing, hint="Let the model be served as it was exported, or add what is missing.")
