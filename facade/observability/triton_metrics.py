"""What Triton counts, under the names of Triton's own metrics.

The embedded server opens no port for metrics, so the figures come from its statistics over gRPC; they are the same
counters. Those of processors and of pending requests are not among the statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tritonvision import catalog
from tritonvision.engine.model_times import ModelTimes


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


_COUNTERS: tuple[tuple[str, str, Callable[[ModelTimes], int]], ...] = (
    ("nv_inference_request_success", "Number of successful inference requests, all batch sizes", lambda m: m.requests),
    ("nv_inference_request_failure", "Number of failed inference requests, all batch sizes", lambda m: m.failures),
    ("nv_inference_count", "Number of inferences performed (does not include cached requests)", lambda m: m.samples),
    ("nv_inference_exec_count", "Number of model executions performed", lambda m: m.executions),
    ("nv_inference_request_duration_us", "Cumulative inference request duration in microseconds",
     lambda m: _micros(m.total)),
    ("nv_inference_queue_duration_us", "Cumulative inference queuing duration in microseconds",
     lambda m: _micros(m.queue)),
    ("nv_inference_compute_input_duration_us", "Cumulative compute input duration in microseconds",
     lambda m: _micros(m.input)),
    ("nv_inference_compute_infer_duration_us", "Cumulative compute inference duration in microseconds",
     lambda m: _micros(m.infer)),
    ("nv_inference_compute_output_duration_us", "Cumulative inference compute output duration in microseconds",
     lambda m: _micros(m.output)),
)  # fmt: skip


def exposition(counted: Sequence[ModelTimes] | None, sees: Callable[[str], bool]) -> bytes:
    """The lines for Prometheus.

    Args:
        counted: of every loaded Triton model; None where Triton did not answer.
        sees: whether the reader may know of the model with this id; lines of its Triton models are left out otherwise.
    """
    told = [times for times in counted or () if all(map(sees, _ids(times.model)))]
    lines = [
        "# HELP tritonvision_triton_up Whether the inference server told its figures",
        "# TYPE tritonvision_triton_up gauge", f"tritonvision_triton_up {0 if counted is None else 1}",
    ]  # fmt: skip
    for name, text, figure in _COUNTERS if told else ():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        lines += [f'{name}{{model="{_escaped(m.model)}",version="{m.version}"}} {figure(m)}' for m in told]
    return "\n".join(lines).encode() + b"\n"


def _ids(triton_name: str) -> set[str]:
    """Ids of the model that a Triton model may be a part of: a step, ``net--ID``, or an entry point, ``ID--role``."""
    without_step = triton_name.partition("--")[2] or triton_name
    names = (triton_name, without_step, triton_name.rpartition("--")[0], without_step.rpartition("--")[0])
    return {catalog.from_triton_name(name) for name in names if name}


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
