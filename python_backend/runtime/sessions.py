"""Networks as sessions of this process, for models whose networks are not Triton models of their own."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.cgroups import cores
from tritonvision.python_backend.runtime.engines import NetworkSession, open_network
from tritonvision.python_backend.runtime.numbers import require_numbers


class Sessions:
    """Networks by role, on the CPU.

    Args:
        files: the file of each: an ONNX graph for ONNX Runtime, or a mapping of ``file`` (its path), ``engine`` and
            ``precision``, see :func:`engines.open_network`.
    """

    def __init__(self, files: Mapping[str, Path | Mapping[str, Any]]):
        # Between two tokens Python works: threads that spin meanwhile take the core it needs.
        threads = cores()
        self._sessions: dict[str, NetworkSession] = {}
        for role, given in files.items():
            network: Mapping[str, Any] = given if isinstance(given, Mapping) else {"file": given}
            engine, precision = network.get("engine", "onnxruntime"), network.get("precision", "fp32")
            self._sessions[role] = open_network(network["file"], engine, precision, threads, spin=False)
        release_free_memory()

    @classmethod
    def of(cls, sessions: Mapping[str, NetworkSession]) -> Sessions:
        """Over sessions that are open already."""
        self = cls.__new__(cls)
        self._sessions = dict(sessions)
        return self

    def replace(self, role: str, session: NetworkSession) -> None:
        """Let another session answer for ``role`` from now on."""
        self._sessions[role] = session

    def __contains__(self, role: str) -> bool:
        return role in self._sessions

    def __getitem__(self, role: str) -> Any:
        """The session itself, for callers that keep tensors in onnxruntime between two runs."""
        return self._sessions[role]

    def __call__(
        self, role: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """``outputs`` of the network ``role``, by name, all with a batch axis first. Raises BrokenModel of a NaN."""
        found = self._sessions[role].run(list(outputs), dict(inputs))
        require_numbers(found)
        return dict(zip(outputs, found, strict=True))


def network_files(folder: Path, sessions: str) -> dict[str, Path | dict[str, Any]]:
    """What :class:`Sessions` opens: the networks that the parameter ``sessions`` of a config tells, JSON.

    Args:
        folder: where their files are.
    """
    found: dict[str, Path | dict[str, Any]] = {}
    for role, given in json.loads(sessions).items():
        found[role] = folder / given if isinstance(given, str) else {**given, "file": folder / given["file"]}
    return found


def release_free_memory() -> None:
    """Hand what loading left behind back to the system: a session holds 2.7 x its graph before, 1.2 x after."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return
