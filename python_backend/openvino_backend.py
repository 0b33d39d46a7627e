"""OpenVINO as a Python-based Triton backend, where the native one is not at hand.

Put behind ``<backend-directory>/openvino/model.py`` it serves any ``config.pbtxt`` with ``backend: "openvino"`` whose
networks run on the CPU, and honours the parameter names of Triton's native backend, so one repository runs on both.
What differs: without ``HINT_BF16`` it computes in fp32 on every processor, while OpenVINO left alone takes bf16 where
the processor has it; and no thread is bound to a core, because each process of a model would be bound to the same one.
One name is ours, which the native backend passes over: ``RELEASE_MEMORY``, ``YES`` to give up the working memory after
each run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.runtime.engines import require
from tritonvision.python_backend.runtime.numbers import require_numbers
from tritonvision.python_backend.runtime.sessions import release_free_memory
from tritonvision.python_backend.step import Step

_COUNTS = ("INFERENCE_NUM_THREADS", "COMPILATION_NUM_THREADS")
_HINTS = ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT")
# What the native backend also does; a value that would change nothing is let pass.
_NOT_HERE = {"ENABLE_BATCH_PADDING": ("", "NO"), "CPU_EXTENSION_PATH": ("",), "TARGET_DEVICE": ("", "CPU")}


class TritonPythonModel(Step):
    """One request a run, on one network: unlike ONNX Runtime's, OpenVINO's threads do not get in the way of those of
    sibling processes, so there is no second one for busy times.
    """

    @staticmethod
    def auto_complete_config(config):
        """Configs are complete: they are generated."""
        return config

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """Open ``<model>/<version>/model.xml``, or the file that ``default_model_filename`` names.

        Raises SetupError, BrokenModel, InvalidParameter.
        """
        properties = properties_of(parameters)
        require("openvino", "bf16" if properties["INFERENCE_PRECISION_HINT"] == "bf16" else "fp32")
        from tritonvision.python_backend.runtime.openvino_session import OpenVinoSession

        folder = Path(args["model_repository"]) / args["model_version"]
        path = folder / (self.config.get("default_model_filename") or "model.xml")
        release = parameters.get("RELEASE_MEMORY", "").upper() == "YES"
        self.session = OpenVinoSession(path, properties, self._dims(parameters), release)
        self.outputs = [output["name"] for output in self.config["output"]]
        release_free_memory()

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """The network's outputs, as the config names them."""
        found = self.session.run(self.outputs, tensors)
        require_numbers(found)
        return dict(zip(self.outputs, found, strict=True))

    def _dims(self, parameters: Mapping[str, str]) -> dict[str, list[int]]:
        """The shapes of the inputs that the config asks for, instead of those in the file."""
        if parameters.get("RESHAPE_IO_LAYERS", "").upper() != "YES":
            return {}
        batch = [-1] if self.config.get("max_batch_size", 0) else []
        return {tensor["name"]: [*batch, *map(int, tensor["dims"])] for tensor in self.config["input"]}


def properties_of(parameters: Mapping[str, str]) -> dict[str, Any]:
    """OpenVINO's properties from the native backend's names. Raises InvalidParameter of what that one refuses, too."""
    given = {key: value.strip().upper() for key, value in parameters.items()}
    for name, harmless in _NOT_HERE.items():
        if given.get(name, "") not in harmless:
            raise InvalidParameter(f"The parameter '{name}' of the native OpenVINO backend is not supported here.")
    found: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    for name in _COUNTS:
        if given.get(name):
            found[name] = int(_one_of(name, given[name], given[name].isdecimal(), "a non-negative number"))
    found.pop("COMPILATION_NUM_THREADS", None)  # of devices other than the CPU
    if given.get("HINT_BF16"):
        _one_of("HINT_BF16", given["HINT_BF16"], given["HINT_BF16"] == "YES", "YES")
        found["INFERENCE_PRECISION_HINT"] = "bf16"
    if streams := given.get("NUM_STREAMS"):
        found["NUM_STREAMS"] = _one_of(
            "NUM_STREAMS", streams, streams in ("AUTO", "NUMA") or streams.isdecimal(), "AUTO, NUMA or a number"
        )
    if hint := given.get("PERFORMANCE_HINT"):
        found["PERFORMANCE_HINT"] = _one_of("PERFORMANCE_HINT", hint, hint in _HINTS, ", ".join(_HINTS))
    return found


def _one_of(name: str, value: str, fits: bool, expected: str) -> str:
    if not fits:
        raise InvalidParameter(f"The parameter '{name}' must be {expected}, not '{value}'.")
    return value
