"""TensorRT plans inside a process of ours, run by Polygraphy, which holds their buffers: for the gate and for timing.
Triton serves plans by its own backend.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tritonvision.errors import BrokenModel


class TensorRtSession:
    """An open plan, for any number of threads of the process, one after another.

    Raises:
        BrokenModel: TensorRT does not load the file: it is none of a plan, not whole, or of another GPU or version.
    """

    def __init__(self, path: Path):
        # only machines with a GPU have it, and every module of this room can be imported on all
        from polygraphy.backend.common import BytesFromPath
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner
        from polygraphy.exception import PolygraphyException

        self._lock = threading.Lock()  # an execution context is no place for two threads
        self._runner = TrtRunner(EngineFromBytes(BytesFromPath(str(path))))
        try:
            self._runner.activate()
        except (PolygraphyException, RuntimeError) as error:
            raise BrokenModel(
                "TensorRT cannot load the plan.", hint="Build it on this machine: tritonvision plan build MODEL_ID"
            ) from error

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        """The arrays ``outputs``, in that order, for ``inputs``, all with a batch axis first."""
        with self._lock:
            found = self._runner.infer(dict(inputs), check_inputs=False)
            # copied: the runner gives its next answer in the same memory
            return [np.array(found[name]) for name in outputs]

    def close(self) -> None:
        """Give the GPU's memory back."""
        self._runner.deactivate()


def open_session(path: Path, precision: str = "fp32", threads: int = 0, *, spin: bool = True) -> TensorRtSession:
    """The plan on the GPU, see :func:`engines.open_network`; its precision stands in it, and it has no threads."""
    return TensorRtSession(path)
