"""What belongs to one request while it is answered, and to the application all the time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request

from tritonvision.facade.admission import ByteReservation

if TYPE_CHECKING:
    from tritonvision.facade.service import Service

_UNREAD = object()
_KEY = "tritonvision"


@dataclass
class Context:
    """One request.

    Attributes:
        request_id: the caller's, or a new one.
        reservation: the bytes this request holds.
        started: ``time.perf_counter()`` when it came.
        model: the public id of the model that was asked, once it is known.
    """

    request_id: str
    reservation: ByteReservation
    started: float = field(default_factory=time.perf_counter)
    model: str = ""
    json: Any = _UNREAD

    def put(self, scope: dict[str, Any]) -> None:
        """Make it the context of the request with this ASGI ``scope``."""
        scope[_KEY] = self


def context_of(request: Request) -> Context:
    """The context the outermost layer made for ``request``."""
    return request.scope[_KEY]


def service_of(request: Request) -> Service:
    """The desk of the application ``request`` came to."""
    return request.app.state.service


async def read_json(request: Request) -> Any:
    """The body as JSON, parsed once however often it is asked for. Raises ValueError."""
    context = context_of(request)
    if context.json is _UNREAD:
        context.json = orjson.loads(await request.body())
    return context.json
