"""ONNX networks as sessions of this process, for models whose networks are not Triton models of their own."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tritonvision.python_backend.runtime.numbers import require_numbers


class Sessions:
    """Networks by role, on the CPU.

    Args:
        files: the ONNX file of each.
    """

    def __init__(self, files: Mapping[str, Path]):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = os.cpu_count() or 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Between two tokens Python works: threads that spin meanwhile take the core it needs.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._sessions = {
            role: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            for role, path in files.items()
        }
        release_free_memory()

    @classmethod
    def of(cls, sessions: Mapping[str, onnxruntime.InferenceSession]) -> Sessions:
        """Over sessions that are open already."""
        self = cls.__new__(cls)
        self._sessions = dict(sessions)
        return self

    def __getitem__(self, role: str) -> onnxruntime.InferenceSession:
        """The session itself, for callers that keep tensors in onnxruntime between two runs."""
        return self._sessions[role]

    def __call__(
        self, role: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """``outputs`` of the network ``role``, by name, all with a batch axis first. Raises BrokenModel of a NaN."""
        found = self._sessions[role].run(list(outputs), dict(inputs))
        require_numbers(found)
        return dict(zip(outputs, found, strict=True))


def release_free_memory() -> None:
    """Hand what loading left behind back to the system: a session holds 2.7 x its graph before, 1.2 x after."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return
