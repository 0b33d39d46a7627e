"""What ``tritonvision tune`` found: with how many processes and threads a model's networks run best on one machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONFIG = "tuned"  # of the tuned networks, in their folder ``configs``
# The parameter by which an engine's backend takes the threads of a process.
THREADS = {"onnxruntime": "intra_op_thread_count", "openvino": "INFERENCE_NUM_THREADS"}


@dataclass(frozen=True)
class Tuning:
    """How the variant that serves runs on the machine on which it was measured; on any other it runs by default.

    Attributes:
        networks: roles of the networks that run this way.
        instances: processes of each.
        threads: of each process; 0 where its engine has none to set.
        delay: milliseconds that a request may wait for others to share its run; 0 runs each by itself.
        machine, cores: where it was measured: the CPU's name, and how many cores there were to use.
        before: name of the variant that served until then, empty for the graphs as they were exported.
        graph_bytes, processes: of the model with these, as in its manifest.
        figures: ``per_second`` of four callers, ``p50`` of a single one and ``p99`` of Poisson arrivals, milliseconds.
    """

    networks: tuple[str, ...]
    instances: int
    threads: int
    delay: float
    machine: str
    cores: int
    before: str = ""
    graph_bytes: int = 0
    processes: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Tuning:
        """The tuning that ``dataclasses.asdict`` wrote. Raises TypeError or ValueError for anything else."""
        known: dict[str, Any] = dict(data)
        known |= {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
        return cls(**known)
