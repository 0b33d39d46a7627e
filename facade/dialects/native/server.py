"""Name, version, health and metrics of the server."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

import tritonvision
from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.dialects.operations import HEALTH
from tritonvision.facade.observability.metrics import Metrics
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.security.keys import reader_of, tell_caller

router = Routes(tags=[HEALTH])


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
async def readiness(request: Request, model: str = "") -> Response:
    """Readiness: 503 while requests would not be answered.

    With ``model``, a name of a published model: 503 while this model would not answer at once, whatever happens to
    others. It has to be loaded for that, and the caller has to be one that may ask it.
    """
    service = service_of(request)
    if model:
        await tell_caller(request)  # the path is open, and which models there are is not
        why_not = await service.why_model_not_ready(service.find(request, possible(model)))
    else:
        why_not = await service.why_not_ready()
    return reply({"status": "not ready", "reason": why_not}, 503) if why_not else reply({"status": "ready"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Figures for Prometheus: ours, and those of the inference server under the names that Triton gives them.

    No key is needed; private models are in it for those alone whose key is for them.
    """
    service, reader = service_of(request), reader_of(request)
    text = service.metrics.text(await service.triton_figures(), reader.sees_figures)
    return Response(text, media_type=Metrics.CONTENT_TYPE)
