"""Metrics for ``/metrics``: Prometheus counters of our own, and the gauges of Roboflow's server."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tritonvision.engine.loaded_models import Memory
from tritonvision.engine.model_times import ModelTimes
from tritonvision.engine.triton_calls import EndpointFigures
from tritonvision.facade.admission import Admission
from tritonvision.facade.observability import triton_metrics
from tritonvision.stages import Timeline

disable_created_metrics()  # no ``_created`` series beside every counter
_WINDOW = 10.0
_SERIES = 4096  # that are kept at hand of each figure
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STAGE_SECONDS = (0.0005, 0.001, 0.0025, *_SECONDS)
_OUTCOMES = {0: "gone", 429: "busy", 499: "gone", 503: "busy", 504: "late"}


class Metrics:
    """The metrics of one application.

    Args:
        memory: gives the memory of the loaded models.
        endpoints: gives the figures of each of several tritonservers.
    """

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(
        self, admission: Admission, memory: Callable[[], Memory], endpoints: Callable[[], Sequence[EndpointFigures]]
    ):
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tritonvision_requests", "Requests answered", ("dialect", "model", "status", "outcome"),
            registry=self._registry,
        )
        self._latency = Histogram(
            "tritonvision_request_seconds", "From the first byte of a request to its answer",
            ("dialect", "model", "outcome"),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._stages = Histogram(
            "tritonvision_stage_seconds", "One stage of a request, whichever process did the work", ("model", "stage"),
            buckets=_STAGE_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._asked = Counter(
            "tritonvision_model_seconds", "Waiting for models: the engine's queue, Triton and the way there and back",
            ("model",), registry=self._registry,
        )  # fmt: skip
        for name, text, figure in (
            ("tritonvision_pictures_in_flight", "Pictures being answered", lambda: admission.pictures),
            ("tritonvision_bytes_in_flight", "Request bytes held", lambda: admission.bytes),
            ("tritonvision_loaded_models", "Models loaded", lambda: len(memory().reckoned)),
            ("tritonvision_memory_bytes", "What they are reckoned at", lambda: sum(memory().reckoned.values())),
            ("tritonvision_evicted_models", "Models that left for others", lambda: memory().evicted),
        ):
            self.gauge(name, text, figure)
        self._registry.register(PlanProgress(memory))
        # the series of each combination of labels, which labels() looks up under a lock
        kept = lru_cache(_SERIES)
        self._answered, self._took = kept(self._requests.labels), kept(self._latency.labels)
        self._staged, self._waited = kept(self._stages.labels), kept(self._asked.labels)
        self._registry.register(Endpoints(endpoints))
        self._window = Window()

    def gauge(self, name: str, text: str, figure: Callable[[], float]) -> None:
        """Add the gauge ``name``, which reads ``figure()``."""
        Gauge(name, text, registry=self._registry).set_function(figure)

    def request(self, dialect: str, model: str, status: int, seconds: float) -> None:
        """Count one answered request; ``model`` is a published id or empty, so that callers cannot create series."""
        self._answered(dialect, model, status, outcome(status)).inc()
        if model:
            self._took(dialect, model, outcome(status)).observe(seconds)

    def stages(self, model: str, timeline: Timeline) -> None:
        """Count the stages of a request; of one without a model there are none to count."""
        for stage in timeline.each() if model else ():
            self._staged(model, stage.name).observe(stage.seconds)

    def inference(self, model: str, seconds: float, failed: bool) -> None:
        """Count one inference of a model."""
        self._window.add(model, seconds, failed)
        self._waited(model).inc(seconds)

    def spent(self, model: str) -> tuple[float, float]:
        """Seconds of all requests for a model, and of those the seconds that they waited for it."""
        return _sum(self._latency, "_sum", model), _sum(self._asked, "_total", model)

    def stage_seconds(self, model: str) -> dict[str, float]:
        """Seconds of all requests for a model, by the stage in which they were spent."""
        return {sample.labels["stage"]: sample.value for sample in _samples(self._stages, "_sum", model)}

    def text(self, triton: Sequence[ModelTimes] | None, sees: Callable[[str], bool]) -> bytes:
        """The exposition for Prometheus.

        Args:
            triton: what Triton counted of each of its models; None where it did not answer.
            sees: whether the reader may know of the model with this id; series of others are left out.
        """
        seen = _Seen(self._registry, self._window, sees)
        return generate_latest(seen) + triton_metrics.exposition(triton, sees)  # type: ignore[arg-type]


def outcome(status: int) -> str:
    """How a request with this HTTP status ended.

    ``ok``; ``refused``, the caller's mistake; ``busy``, 429 or 503: too much work, or the model is loading or being
    mended; ``late``, over its deadline; ``gone``, its caller left; ``failed``.
    """
    if status in _OUTCOMES:
        return _OUTCOMES[status]
    return "failed" if status >= 500 else "refused" if status >= 400 else "ok"


def _sum(figure: Counter | Histogram, end: str, model: str) -> float:
    """Of the series of ``model`` whose names end so."""
    return sum(sample.value for sample in _samples(figure, end, model))


def _samples(figure: Counter | Histogram, end: str, model: str) -> Iterator[Any]:
    samples = (sample for metric in figure.collect() for sample in metric.samples)
    return (s for s in samples if s.name.endswith(end) and s.labels.get("model") == model)


class _Seen:
    """What is collected without the series of models that a reader may not know of; sums over all models stay."""

    def __init__(self, registry: CollectorRegistry, window: Window, sees: Callable[[str], bool]):
        self._registry, self._window, self._sees = registry, window, sees

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's hook."""
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.labels.get("model") or self._sees(s.labels["model"])]
            yield metric
        yield from self._window.collect(self._sees)


class PlanProgress:
    """``tritonvision_plan_build``: the part that is done of each TensorRT plan that is built here, 1 when it is built.

    Args:
        memory: gives the memory of the loaded models.
    """

    def __init__(self, memory: Callable[[], Memory]):
        self._memory = memory

    def describe(self) -> list[GaugeMetricFamily]:
        """prometheus_client's hook, else it would collect to learn the names."""
        return [GaugeMetricFamily("tritonvision_plan_build", "")]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """prometheus_client's hook."""
        text = "Part of a TensorRT plan's building that is done, in its present phase"
        family = GaugeMetricFamily("tritonvision_plan_build", text, labels=("model", "variant", "state"))
        for model, build in self._memory().plan_builds.items():
            family.add_metric((model, build.variant, build.state), build.done)
        yield family


class Endpoints:
    """``tritonvision_endpoint_*`` of each of several tritonservers.

    Args:
        figures: gives what they are and were asked.
    """

    def __init__(self, figures: Callable[[], Sequence[EndpointFigures]]):
        self._figures = figures

    def describe(self) -> list[Metric]:
        """prometheus_client's hook, else it would collect to learn the names."""
        return [family for family, _ in self._families()]

    def collect(self) -> Iterator[Metric]:
        """prometheus_client's hook."""
        told = self._figures()
        for family, figure in self._families():
            for endpoint in told:
                family.add_metric((endpoint.target,), figure(endpoint))
            yield family

    @staticmethod
    def _families() -> list[tuple[Any, Callable[[EndpointFigures], float]]]:
        name, labels = "tritonvision_endpoint_", ("endpoint",)
        return [
            (GaugeMetricFamily(f"{name}healthy", "Whether it is ready", labels=labels), lambda e: e.healthy),
            (GaugeMetricFamily(f"{name}outstanding", "Calls under way there", labels=labels), lambda e: e.outstanding),
            (CounterMetricFamily(f"{name}requests", "Calls that began there", labels=labels), lambda e: e.requests),
            (CounterMetricFamily(f"{name}failures", "Calls that it failed", labels=labels), lambda e: e.failures),
        ]  # fmt: skip


class Window:
    """``num_inferences_*``, ``avg_inference_time_*``, ``num_errors_*`` of the last ten seconds, by model and in all."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seen: dict[str, deque[tuple[float, float, bool]]] = defaultdict(deque)

    def add(self, model: str, seconds: float, failed: bool) -> None:
        """Count one inference in the window."""
        rows = self._seen[model]
        rows.append((self._clock(), seconds, failed))
        self._forget(rows)

    def collect(self, sees: Callable[[str], bool]) -> Iterator[GaugeMetricFamily]:
        """The gauges of models that ``sees`` says, and of all together."""
        # Characters of ids that metric names cannot have become ``_``, so ids can share a name.
        named: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
        everything: list[tuple[float, float, bool]] = []
        for model, rows in self._seen.items():
            self._forget(rows)
            everything += rows
            if not sees(model):
                continue
            named[re.sub(r"[^a-zA-Z0-9_]", "_", model)] += rows
        for name, together in named.items():
            yield from _gauges(name, together)
        yield from _gauges("total", everything)

    def _forget(self, rows: deque[tuple[float, float, bool]]) -> None:
        while rows and rows[0][0] < self._clock() - _WINDOW:
            rows.popleft()


def _gauges(name: str, rows: deque | list) -> Iterator[GaugeMetricFamily]:
    answered = [seconds for _, seconds, failed in rows if not failed]
    yield GaugeMetricFamily(f"num_inferences_{name}", "Inferences in the last 10 s", len(answered))
    average = sum(answered) / len(answered) if answered else 0.0
    yield GaugeMetricFamily(f"avg_inference_time_{name}", "Mean seconds of them", average)
    yield GaugeMetricFamily(f"num_errors_{name}", "Errors in the last 10 s", len(rows) - len(answered))
