"""Networks on ONNX Runtime, inside a process of ours."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort

from tritonvision.errors import BrokenModel, SetupError
from tritonvision.variants import OFFERED

# What ONNX Runtime raises of a graph that it cannot load or run.
ERRORS = (
    ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NoSuchFile, ort.NotImplemented,
    ort.RuntimeException, RuntimeError, ValueError,
)  # fmt: skip


def open_session(
    graph: Path | bytes, precision: str = "fp32", threads: int = 0, *, spin: bool = True
) -> onnxruntime.InferenceSession:
    """The graph, a file or its bytes, on the CPU, see :func:`engines.open_network`. Raises SetupError, BrokenModel.

    In int8 and int4 the file itself says which weights have as few bits.
    """
    if precision not in OFFERED["onnxruntime"]:
        raise SetupError(f"ONNX Runtime runs a network as it was exported, not in {precision}.")
    options = onnxruntime.SessionOptions()
    # A second run in which all activations are one block would keep that block beside those of the first: docTR's
    # detector 580 MB instead of 300. No network here ran faster for it (benchmarks/activation_memory.py).
    options.enable_mem_pattern = False
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if not spin:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise BrokenModel("A graph of the model cannot be read.", hint="Publish it again with --force.") from error
