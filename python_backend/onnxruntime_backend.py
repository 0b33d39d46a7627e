"""ONNX Runtime as a Python-based Triton backend, where the native one is not installed.

As ``<backend-directory>/onnxruntime/model.py`` it serves any ``config.pbtxt`` with ``backend: "onnxruntime"`` and reads
the parameters of Triton's native backend, so one repository runs on both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

from tritonvision import graph_files
from tritonvision.python_backend.runtime.load_sharing import Siblings
from tritonvision.python_backend.runtime.numbers import require_numbers
from tritonvision.python_backend.runtime.sessions import release_free_memory
from tritonvision.python_backend.step import Step

_LEVELS = {
    "-1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "0": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "1": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "2": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


# Graphs up to this many bytes get a second session for busy times, which holds the weights once more.
_SMALL_GRAPH = 120_000_000
# Threads of a process that is alone on the machine may wait for each other actively, while a run lasts and no longer.
_ALONE = {"session.intra_op.allow_spinning": "1", "session.force_spinning_stop": "1"}
_COMMON_ARENA = {"session.use_env_allocators": "1"}


class TritonPythonModel(Step):
    """One request a run. Threads that several processes run at once only get in each other's way, so a small graph has
    two sessions: one with all its threads for when its sibling processes are idle, one with a single thread.
    """

    @staticmethod
    def auto_complete_config(config):
        """Configs are complete: they are generated."""
        return config

    def setup(self, parameters: Mapping[str, str], args: Mapping[str, str]) -> None:
        """Open ``<model>/<version>/model.onnx``, or the file that ``default_model_filename`` names."""
        folder = Path(args["model_repository"]) / args["model_version"]
        path = folder / (self.config.get("default_model_filename") or "model.onnx")
        providers = ["CPUExecutionProvider"]
        if args["model_instance_kind"] == "GPU":
            providers.insert(0, "CUDAExecutionProvider")
        level = str(self.config["optimization"].get("graph", {}).get("level", 0))

        def session(changed: Mapping[str, str]) -> onnxruntime.InferenceSession:
            options = session_options({**parameters, **changed}, level)
            return onnxruntime.InferenceSession(str(path), options, providers=providers)

        count = sum(group["count"] for group in self.config["instance_group"])
        threads = int(parameters.get("intra_op_thread_count", 1))
        self.siblings = Siblings(args["model_name"], args["model_instance_name"], count)
        if count > 1 and threads > 1 and graph_files.size(path) <= _SMALL_GRAPH:
            _share_arena()
            one_thread = {"intra_op_thread_count": "1"}
            self.sessions = {True: session(_ALONE | _COMMON_ARENA), False: session(one_thread | _COMMON_ARENA)}
        else:
            self.sessions = dict.fromkeys((True, False), session({}))
        self.outputs = [output["name"] for output in self.config["output"]]
        self.run_options = run_options(parameters)
        release_free_memory()

    def answer(self, tensors: dict[str, np.ndarray], wanted: Collection[str]) -> dict[str, np.ndarray]:
        """The graph's outputs, as the config names them."""
        with self.siblings as alone:
            found = self.sessions[alone].run(self.outputs, tensors, self.run_options)
        require_numbers(found)
        return dict(zip(self.outputs, found, strict=True))


@cache
def _share_arena() -> None:
    """Make the arena of this process, from which sessions with :data:`_COMMON_ARENA` take their activations.

    Of two sessions one runs at a time; with an arena each they would keep the memory of their activations twice.
    """
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({}))


def session_options(parameters: Mapping[str, str], level: str = "0") -> onnxruntime.SessionOptions:
    """Session options from the native backend's names: thread counts, execution mode and ``session.*`` entries."""
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # see onnxruntime_session.open_session
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 1))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 1))
    if parameters.get("execution_mode") == "1":
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    options.graph_optimization_level = _LEVELS[level]
    options.log_severity_level = 3
    for key, value in parameters.items():
        if key.startswith("session."):
            options.add_session_config_entry(key, value)
    return options


def run_options(parameters: Mapping[str, str]) -> onnxruntime.RunOptions | None:
    """What the native backend passes to each run: its ``memory.*`` entry."""
    name = "memory.enable_memory_arena_shrinkage"
    if name not in parameters:
        return None
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(name, parameters[name])
    return options
