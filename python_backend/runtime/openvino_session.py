"""Networks on OpenVINO, inside a process of ours: ONNX files, and its own format for what was quantised."""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from tritonvision.errors import BrokenModel
from tritonvision.machine import why_not
from tritonvision.python_backend.runtime.sessions import release_free_memory

REST = ["tritonvision", "rest"]
"""What a file of int8 may say of the layers that are not: ``bf16``, for processors that compute in it."""
_ARITHMETIC = {"bf16": "bf16"}  # what is not named here computes in fp32 what the file leaves open
# One stream: a process has one network to run at a time. Not pinned: the processes of a server would all be pinned to
# the same cores.
_PROPERTIES = {"NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
_TOLD = ("INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", *_PROPERTIES)


@functools.cache
def _core() -> openvino.Core:
    """OpenVINO, once for the life of the process.

    Its CPU plugin gives the thread that loads it an alternate signal stack of its own, and frees that stack with the
    last Core, on whatever thread lets it go: the next signal then ends the process with SIGSEGV (seen with 2026.4).
    """
    return openvino.Core()


class OpenVinoSession:
    """An open network, for any number of threads of the process, one after another.

    Args:
        path: of an ONNX file, or of the ``.xml`` beside the ``.bin`` of OpenVINO's own format.
        properties: of OpenVINO's CPU device, by their names there.
        dims: of inputs, by name, -1 for any; those that are not named keep the shapes of the file.
        release: whether its working memory goes back to the system after each run, which takes some milliseconds.

    Raises:
        BrokenModel: OpenVINO does not read or not compile it.
    """

    def __init__(
        self, path: Path, properties: Mapping[str, Any], dims: Mapping[str, Sequence[int]] | None = None,
        release: bool = False,
    ):  # fmt: skip
        core = _core()
        doing = "read"
        try:
            model = core.read_model(path)
            doing = "run"
            settings = _PROPERTIES | dict(properties)
            if model.has_rt_info(REST) and not why_not("openvino", "bf16"):
                settings["INFERENCE_PRECISION_HINT"] = model.get_rt_info(REST).astype(str)
            if dims:
                model.reshape({name: openvino.PartialShape(list(shape)) for name, shape in dims.items()})
            compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            sentence = f"OpenVINO cannot {doing} the network."
            raise BrokenModel(sentence, hint="Publish it again with --force.") from error
        self.properties = {name: compiled.get_property(name) for name in _TOLD}
        self._release = compiled.release_memory if release else None
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()  # a request is no place for two threads, and one stream gives them no more

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        """The arrays ``outputs``, in that order, for ``inputs``, all with a batch axis first."""
        with self._lock:
            self._request.infer(dict(inputs), share_inputs=True, share_outputs=True)
            # copied: the request computes its next answer in the same memory
            found = [self._request.get_tensor(name).data.copy() for name in outputs]
            if self._release is not None:
                self._release()
                release_free_memory()
        return found


def open_session(path: Path, precision: str = "fp32", threads: int = 0, *, spin: bool = True) -> OpenVinoSession:
    """The network on the CPU, see :func:`engines.open_network`; its threads never spin."""
    # said even of fp32: where a processor computes in bf16, OpenVINO does so unless it is told otherwise. A file of its
    # own format has a type for each of its operations.
    hint = "f32" if path.suffix == ".xml" else _ARITHMETIC.get(precision, "f32")
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
    if threads:
        properties["INFERENCE_NUM_THREADS"] = threads
    return OpenVinoSession(path, properties)
