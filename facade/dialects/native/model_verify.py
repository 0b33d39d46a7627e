"""``GET /model/verify/{model}``: whether a model answers as it did when it was published, stage by stage."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from tritonvision.facade.context import context_of, service_of
from tritonvision.facade.dialects.common.names import possible
from tritonvision.facade.dialects.operations import LOADING
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes

router = Routes(tags=[LOADING])

@router.get("/model/verify/{model_id:path}")
async def verify(request: Request, model_id: str) -> Response:
    """Load the model if it is not loaded, ask it and each of its stages their golden questions, and tell the figures.

    A figure is the largest difference of an output from the recorded one; null where there is no such number.
    """
    service, name = service_of(request), possible(model_id)
    service.check_manage(request, name)  # it loads, and asks past every queue
    verdict = await service.engine.verify(name)
    context_of(request).model = verdict.model_id
    return reply(verdict.to_dict())
