"""Our own routes: the server, its models, the page. Their errors have the body of the path's dialect."""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.native import model_facts, model_times, model_verify, openapi, server, streams
from tritonvision.facade.dialects.roboflow import errors
from tritonvision.facade.dialects.roboflow.answer_types import RoboflowError
from tritonvision.facade.page import routes as page

NATIVE = Dialect(
    "native", (),
    (page.router, model_facts.router, model_verify.router, model_times.router, server.router, streams.router), errors,
    RoboflowError, openapi.OPERATIONS,
    reserved=("static", "docs", "streams"),
    open_paths=frozenset((*page.PAGES, "/openapi.json", "/info", "/healthz", "/readiness", "/metrics")),
    health_paths=frozenset(("/healthz", "/readiness")),
)  # fmt: skip
