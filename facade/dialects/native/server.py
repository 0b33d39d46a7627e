"""Name, version, health and metrics of the server."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.operations import HEALTH
from tritonvision.facade.replies import reply

router = APIRouter(tags=[HEALTH])


@router.get("/info")
async def info(request: Request) -> Response:
    """Name, version and id of this server."""
    return reply(
        {"name": "tritonvision", "version": tritonvision.__version__, "uuid": service_of(request).engine.server_id}
    )


@router.get("/healthz")
async def healthz(request: Request) -> Response:
    """Liveness: 503 when this process should be replaced."""
    engine = service_of(request).engine
    if engine.live():
        return reply({"status": "healthy"})
    return reply({"status": "unhealthy", "reason": engine.why_not_ready()}, 503)


@router.get("/readiness")
async def readiness(request: Request) -> Response:
    """Readiness: 503 while requests would not be answered."""
    why_not = await service_of(request).why_not_ready()
    return reply({"status": "not ready", "reason": why_not}, 503) if why_not else reply({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    figures = service_of(request).metrics
    return Response(figures.text(), media_type=figures.CONTENT_TYPE)
