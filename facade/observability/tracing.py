"""Traces for OpenTelemetry, of its SDK: a span a request, and one for each stage of it.

Sampling, limits, batches, endpoints and headers are what the SDK reads from its standard environment variables; which
exporters there are is known to the settings. A caller's ``traceparent`` is continued.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers

import tritonvision
from tritonvision.settings import Telemetry
from tritonvision.stages import Stage, Timeline

log = logging.getLogger(__name__)

_NAME = "tritonvision"
_LAST_SECONDS = 3.0  # in which what is not yet sent may be sent at the end
_CARRIED = ("traceparent", "tracestate")


class Tracing:
    """Makes the spans of requests and exports them in a thread of its own; a collector that is gone delays nothing."""

    def __init__(self, telemetry: Telemetry):
        named = Resource.create({"service.version": tritonvision.__version__})
        if str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):  # nobody gave one
            named = named.merge(Resource({SERVICE_NAME: _NAME}))
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        for name in telemetry.exporters:
            self._provider.add_span_processor(BatchSpanProcessor(_exporter(name, telemetry.protocol)))
        self._tracer = self._provider.get_tracer(_NAME, tritonvision.__version__)
        self._context = TraceContextTextMapPropagator()

    def begin(self, scope: Mapping[str, Any], timeline: Timeline) -> Span:
        """The span of a request with this ASGI scope, which has just arrived; its ``timeline`` gets the trace."""
        headers = Headers(scope=dict(scope))
        parent = self._context.extract({name: headers[name] for name in _CARRIED if name in headers})
        span = self._tracer.start_span(scope["method"], context=parent, kind=SpanKind.SERVER)
        told: dict[str, str] = {}
        self._context.inject(told, trace.set_span_in_context(span))
        timeline.traceparent = told.get("traceparent", "")
        return span

    def trace_id(self, span: Span) -> str:
        """The id of the trace that a span belongs to, 32 hex digits."""
        return trace.format_trace_id(span.get_span_context().trace_id)

    def end(self, span: Span, timeline: Timeline, attributes: Mapping[str, str | int], failed: bool) -> None:
        """The request has been answered: its stages become spans within its own."""
        if span.is_recording():
            since_the_epoch = time.time_ns() - time.monotonic_ns()
            for stage in timeline.stages:
                self._add(stage, span, since_the_epoch)
            span.set_attributes(dict(attributes))
            route = attributes.get("http.route")
            span.update_name(f"{attributes['http.request.method']} {route}" if route else "HTTP")
            if failed:
                span.set_status(StatusCode.ERROR)
        span.end()

    def _add(self, stage: Stage, parent: Span, offset: int) -> None:
        about = {"tritonvision.triton_model": stage.model} if stage.model else {}
        kind = SpanKind.CLIENT if stage.name == "triton" else SpanKind.INTERNAL
        span = self._tracer.start_span(
            stage.name, context=trace.set_span_in_context(parent), kind=kind, attributes=about,
            start_time=stage.began + offset,
        )  # fmt: skip
        for part in stage.parts:
            self._add(part, span, offset)
        span.end(stage.ended + offset)

    def close(self) -> None:
        """Send what is left, for some seconds at most: a collector that hangs does not hold the process."""
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(_LAST_SECONDS)


def _exporter(name: str, protocol: str) -> SpanExporter:
    if name == "console":
        return ConsoleSpanExporter()
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

        return OverGrpc()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

    return OverHttp()
