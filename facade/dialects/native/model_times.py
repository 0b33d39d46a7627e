"""``GET /model/times/{model}``: where the time of a model's requests went, as Triton and the facade count it."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.dialects.operations import LOADING
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes

router = Routes(tags=[LOADING])


@router.get("/model/times/{model_id:path}")
async def times(request: Request, model_id: str) -> Response:
    """Seconds and counts of each Triton model behind a published one, since it was loaded, and of the requests here."""
    service = service_of(request)
    manifest, found = await service.engine.times(service.find(request, possible(model_id)).id)
    context_of(request).model = manifest.id
    requests, waiting = service.metrics.spent(manifest.id)
    return reply({
        "model_id": manifest.id, "entry_points": manifest.triton_names, "steps": manifest.steps,
        "request_seconds": requests, "model_seconds": waiting,
        "stage_seconds": service.metrics.stage_seconds(manifest.id), "times": [asdict(one) for one in found],
    })  # fmt: skip
