"""A machine with a GPU and TensorRT, as far as one without either can be it: a recording double of TensorRT's bindings.

Its plan is the graph that it was given, and ONNX Runtime runs it. That the calls of a build are those that TensorRT
takes is shown by ``tests/tensorrt``, where NVIDIA's own builder answers the same code.
"""

import importlib.metadata
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from tritonvision import gpus, machine
from tritonvision.python_backend.runtime import engines, onnxruntime_session

H200, L4 = gpus.Gpu("NVIDIA H200", "9.0", "", "13.0"), gpus.Gpu("NVIDIA L4", "8.9", "", "13.0")


class Recorder:
    """Takes any call, and remembers its name and arguments in ``calls``."""

    def __init__(self, calls, **answers):
        self.__dict__.update(answers, _calls=calls)

    def __getattr__(self, name):
        return lambda *arguments: self._calls.append((name, *arguments))


def tensorrt(calls, broken=False):
    """A double of TensorRT's bindings whose plan is the graph that was parsed."""
    trt = ModuleType("tensorrt")
    trt.__version__ = "10.13.0.35"
    trt.ILogger, trt.IProgressMonitor = type("ILogger", (), {}), type("IProgressMonitor", (), {})
    trt.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    trt.BuilderFlag = SimpleNamespace(TF32="TF32", VERSION_COMPATIBLE="VERSION_COMPATIBLE")
    trt.HardwareCompatibilityLevel = SimpleNamespace(NONE="NONE", SAME_COMPUTE_CAPABILITY="SAME")
    parsed = []

    def parse(path):
        parsed.append(Path(path).read_bytes())
        return True

    cache = SimpleNamespace(serialize=lambda: b"measured")
    config = Recorder(
        calls, add_optimization_profile=lambda limits: 0, create_timing_cache=lambda data: data,
        set_timing_cache=lambda cache, ignore: True, get_timing_cache=lambda: cache,
    )  # fmt: skip
    trt.Builder = lambda logger: SimpleNamespace(
        create_network=lambda flags: calls.append(("create_network", flags)),
        create_builder_config=lambda: config, create_optimization_profile=lambda: Recorder(calls),
        build_serialized_network=lambda network, config: None if broken else parsed[-1],
    )  # fmt: skip
    trt.OnnxParser = lambda network, logger: SimpleNamespace(parse_from_file=parse)
    return trt


def have(monkeypatch, gpu, calls, version="10.13.0.35", broken=False):
    """This machine has that GPU, or None, and TensorRT; what is called of it is appended to ``calls``."""
    monkeypatch.setattr(machine, "why_not", lambda engine, precision: "")
    monkeypatch.setattr(machine, "gpu", lambda: gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt(calls, broken))
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: version if name == "tensorrt" else real(name))
    session = ModuleType("tensorrt_session")
    session.open_session = lambda path, *_, **__: onnxruntime_session.open_session(path)
    monkeypatch.setitem(sys.modules, "tritonvision.python_backend.runtime.tensorrt_session", session)
    monkeypatch.setattr(engines, "why_not", lambda engine, precision: "")
