"""The FastAPI application: the dialects' routes over one service, and what all of them share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision import catalog
from tritonvision.errors import UnknownModel
from tritonvision.facade.admission import Admission
from tritonvision.facade.context import service_of
from tritonvision.facade.data_plane import DataPlane
from tritonvision.facade.dialects.registry import DIALECTS, OPEN_PATHS, RESERVED, dialect_of
from tritonvision.facade.inputs.fetch import Fetcher
from tritonvision.facade.inputs.pictures import Pictures
from tritonvision.facade.middleware.access_log import AccessLog
from tritonvision.facade.middleware.body_limits import BodyLimits
from tritonvision.facade.middleware.disconnect import CancelOnDisconnect
from tritonvision.facade.middleware.errors import ErrorResponses
from tritonvision.facade.middleware.request_context import RequestContext
from tritonvision.facade.middleware.write_deadline import WriteDeadline
from tritonvision.facade.observability.metrics import Metrics
from tritonvision.facade.openapi import describe
from tritonvision.facade.page import routes as page
from tritonvision.facade.replies import cut, reply
from tritonvision.facade.response_cache import ResponseCache, Responses
from tritonvision.facade.security.access import Access
from tritonvision.facade.security.keys import authorize
from tritonvision.facade.security.origins import OriginGuard, hosts_of
from tritonvision.facade.service import Service
from tritonvision.facade.shared_store import SharedStore
from tritonvision.settings import Settings, read_telemetry

if TYPE_CHECKING:
    from tritonvision.facade.observability.tracing import Tracing

log = logging.getLogger(__name__)

_MOST_PROBLEMS = 20  # errors of a body in one answer
_SENTENCES = {404: "There is no such route.", 405: "The route does not know this method."}


def create_app(engine: DataPlane, settings: Settings, *, fetcher: Fetcher | None = None) -> FastAPI:
    """The application in front of ``engine``, which the caller starts and closes.

    Args:
        fetcher: fetches pictures that come as URLs; the default follows ``settings``.
    """
    fetcher = fetcher or Fetcher(settings.url_timeout, settings.allow_http_url_hosts)
    admission = Admission(settings.max_in_flight, settings.max_in_flight_bytes, settings.max_body_bytes)
    metrics, tracing = Metrics(admission, engine.memory, engine.endpoints), _tracing()
    store = SharedStore(settings.redis_url, settings.redis_timeout)
    metrics.gauge("tritonvision_lost_processes", "Processes of Triton that were replaced", lambda: engine.losses()[0])
    metrics.gauge("tritonvision_triton_restarts", "Starts of Triton after the first", lambda: engine.losses()[1])

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await fetcher.close()
        await store.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="tritonvision", version=tritonvision.__version__, lifespan=lifespan, redirect_slashes=False,
        docs_url=None, redoc_url=None,  # our own pages, which load nothing from other hosts
        description="Vision models on NVIDIA Triton, in the dialects of Roboflow Inference, Hugging Face and "
        "OpenAI's chat completions.",
        dependencies=[Depends(authorize)],
    )  # fmt: skip
    app.state.service = Service(
        engine, settings, admission, metrics, Pictures(settings, fetcher), Access(settings), store
    )
    app.state.open_paths = OPEN_PATHS
    app.state.responses = Responses(ResponseCache(settings.response_cache), store)
    _add_middlewares(app, settings, tracing)
    app.exception_handler(HTTPException)(_http_error)
    app.exception_handler(RequestValidationError)(_invalid)
    page.add_pages(app)
    for dialect in DIALECTS:
        for router in dialect.routers:
            app.include_router(router)
    for dialect in DIALECTS:
        if dialect.last is not None:
            app.include_router(dialect.last(RESERVED))
    describe(app)
    return app


def _tracing() -> Tracing | None:
    """Traces for OpenTelemetry, where its standard variables ask for them; nothing of it is imported otherwise."""
    if not (telemetry := read_telemetry()).exporters:
        return None
    try:
        from tritonvision.facade.observability.tracing import Tracing

        return Tracing(telemetry)
    except ImportError:
        log.warning("OTEL_* variables ask for traces, and what makes them lacks: pip install 'tritonvision[telemetry]'")
        return None


def _add_middlewares(app: FastAPI, settings: Settings, tracing: Tracing | None) -> None:
    """The middlewares, the innermost first."""
    service: Service = app.state.service
    app.add_middleware(CancelOnDisconnect, requests=service.requests)
    app.add_middleware(
        OriginGuard, trusted=settings.cors_origins, hosts=hosts_of(settings), open_paths=OPEN_PATHS
    )  # fmt: skip
    app.add_middleware(ErrorResponses, dialect_of=dialect_of)
    app.add_middleware(BodyLimits, timeout=settings.read_timeout)
    app.add_middleware(WriteDeadline, timeout=settings.write_timeout)
    if settings.cors_origins:  # off by default: any web page could unload the models of a local server
        app.add_middleware(
            CORSMiddleware, allow_origins=sorted(settings.cors_origins), allow_methods=["GET", "POST"],
            allow_headers=["*"], expose_headers=["x-request-id", "x-compute-time", "x-cache", "retry-after"],
        )  # fmt: skip
    app.add_middleware(AccessLog, metrics=service.metrics, dialect_of=dialect_of, tracing=tracing)
    app.add_middleware(RequestContext, admission=service.admission, open_paths=OPEN_PATHS)


async def _http_error(request: Request, error: HTTPException) -> Response:
    sentence = _SENTENCES.get(error.status_code, str(error.detail))
    if error.status_code == 404:
        sentence = f"{sentence} {_way_to_model(request)}".strip()
    body = dialect_of(request.scope["path"]).errors.http_error_body(error.status_code, sentence)
    return reply(body, error.status_code, error.headers)


def _way_to_model(request: Request) -> str:
    """For a POST to the name of a model instead of a route: a sentence with its route; else empty.

    Who sent it is not known here, so a server with keys does not tell which models there are.
    """
    if service_of(request).access.closed:
        return ""
    name = request.scope["path"].strip("/")
    try:
        known = service_of(request).engine.repository.find(name) or catalog.entries().get(catalog.canonical(name))
    except UnknownModel:  # no model can have this name
        return ""
    return f"The model '{name}' is asked at /models/{known.id}." if known else ""


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    problems = [problem | {"msg": cut(problem["msg"])} for problem in error.errors()[:_MOST_PROBLEMS]]
    status, body = dialect_of(request.scope["path"]).errors.invalid(problems)
    return reply(body, status)
