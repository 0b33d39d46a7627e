"""Where the time of a Triton model went, as Triton counts it: in its queue, and in the three parts of an execution."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

_NANO = 1e-9


@dataclass(frozen=True)
class ModelTimes:
    """Sums since the model was loaded; of an ensemble only ``total`` is its own.

    Attributes:
        model: its Triton name.
        version: of it.
        samples: that went through it, one or several an execution.
        executions: of its networks or its Python code.
        requests: answered.
        failures: requests that were not.
        queue: seconds that requests waited for an instance.
        input, infer, output: seconds of executions: gathering the inputs, the work, handing the outputs on.
        total: seconds from the arrival of a request to its answer.
    """

    model: str
    samples: int
    executions: int
    requests: int
    queue: float
    input: float
    infer: float
    output: float
    total: float
    version: str = "1"
    failures: int = 0

    @classmethod
    def of(cls, told: Any) -> ModelTimes:
        """What Triton's ``ModelStatistics`` says of one model."""
        stats = told.inference_stats
        return cls(
            told.name, told.inference_count, told.execution_count, stats.success.count, stats.queue.ns * _NANO,
            stats.compute_input.ns * _NANO, stats.compute_infer.ns * _NANO, stats.compute_output.ns * _NANO,
            stats.success.ns * _NANO, told.version, stats.fail.count,
        )  # fmt: skip

    def since(self, before: ModelTimes | None) -> ModelTimes:
        """What came after ``before``; everything where the model was not loaded then."""
        if before is None or before.requests > self.requests:
            return self
        return replace(self, **{name: getattr(self, name) - getattr(before, name) for name in _counted()})

    def plus(self, other: ModelTimes) -> ModelTimes:
        """Both together: of one model at two servers."""
        return replace(self, **{name: getattr(self, name) + getattr(other, name) for name in _counted()})

    @property
    def batch(self) -> float:
        """Samples of an execution, in the mean."""
        return self.samples / self.executions if self.executions else 0.0


def _counted() -> list[str]:
    return [field.name for field in fields(ModelTimes) if field.name not in ("model", "version")]
