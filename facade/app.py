"""The FastAPI application: the dialects' routes over one desk, and one place for what all of them share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision.facade import model_facts, page
from tritonvision.facade.admission import Admission
from tritonvision.facade.auth import authorize
from tritonvision.facade.desk import DataPlane, Desk
from tritonvision.facade.dialects import (
    huggingface,
    openai,
    roboflow,
    roboflow_clip,
    roboflow_depth,
    roboflow_gaze,
    roboflow_lmm,
    roboflow_masks,
    roboflow_ocr,
    roboflow_open_vocabulary,
    roboflow_sam,
    roboflow_server,
)
from tritonvision.facade.fetch import Fetcher
from tritonvision.facade.frame import Frame
from tritonvision.facade.inputs import Pictures
from tritonvision.facade.metrics import Metrics
from tritonvision.facade.openapi import describe
from tritonvision.facade.owners import dialect_of
from tritonvision.facade.replies import reply
from tritonvision.facade.response_cache import ResponseCache
from tritonvision.settings import Settings

_SENTENCES = {404: "There is no such route.", 405: "The route does not know this method."}


def create_app(engine: DataPlane, settings: Settings, *, fetcher: Fetcher | None = None) -> FastAPI:
    """The application in front of ``engine``, which the caller starts and closes.

    Args:
        fetcher: fetches pictures that come as URLs; the default follows ``settings``.
    """
    fetcher = fetcher or Fetcher(settings.url_timeout, settings.allow_http_url_hosts)
    admission = Admission(settings.max_in_flight, settings.max_in_flight_bytes, settings.max_body_bytes)
    metrics = Metrics(admission, engine.memory)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await fetcher.close()

    app = FastAPI(
        title="tritonvision", version=tritonvision.__version__, lifespan=lifespan, redirect_slashes=False,
        docs_url=None, redoc_url=None,  # our own, which ask no other host
        description="Vision models on NVIDIA Triton, in the dialects of Roboflow Inference, Hugging Face and "
        "OpenAI's chat completions.",
        dependencies=[Depends(authorize)],
    )  # fmt: skip
    app.state.desk = Desk(engine, settings, admission, metrics, Pictures(settings, fetcher))
    app.state.responses = ResponseCache(settings.response_cache)
    app.add_middleware(Frame, admission=admission, metrics=metrics, dialect_of=dialect_of)
    if settings.cors_origins:  # none by default: any page a person visits could unload the models of a local server
        app.add_middleware(
            CORSMiddleware, allow_origins=sorted(settings.cors_origins), allow_methods=["GET", "POST"],
            allow_headers=["*"], expose_headers=["x-request-id", "x-compute-time", "x-cache", "retry-after"],
        )  # fmt: skip
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    page.add_pages(app)
    for router in (
        page.router, model_facts.router, huggingface.router, openai.router, roboflow_server.router, roboflow.router,
        roboflow_masks.router, roboflow_clip.router, roboflow_depth.router, roboflow_sam.router,
        roboflow_gaze.router, roboflow_lmm.router, roboflow_ocr.router, roboflow_open_vocabulary.router,
        roboflow.legacy,
    ):  # fmt: skip
        app.include_router(router)  # the legacy route swallows every path of two segments, so it is the last
    describe(app)
    return app


async def _http_error(request: Request, error: HTTPException) -> Response:
    sentence = _SENTENCES.get(error.status_code, str(error.detail))
    body = dialect_of(request.scope["path"]).http_error_body(error.status_code, sentence)
    return reply(body, error.status_code, error.headers)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    status, body = dialect_of(request.scope["path"]).invalid(error.errors())
    return reply(body, status)
