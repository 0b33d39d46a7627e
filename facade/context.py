"""The state of one request, and access to the application's service."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from tritonvision.facade.admission import ByteReservation
from tritonvision.stages import Timeline

if TYPE_CHECKING:
    from tritonvision.facade.middleware.body_limits import Body
    from tritonvision.facade.service import Service

_KEY = "tritonvision"
UNREAD = object()


@dataclass
class Context:
    """One request.

    Attributes:
        request_id: the caller's, or a new one.
        reservation: the bytes this request holds.
        room: its admission, released when its answer is ready to be written.
        started: ``time.perf_counter()`` at its arrival.
        timeline: the stages of its work.
        answered: nanoseconds of the monotonic clock when its model had answered, 0 before.
        model: the public id of its model, once it is known.
        caller: the name of its API key, never the key; empty without one, and until it was checked.
        admitted: pictures that :attr:`room` is for.
        body: the receiving side with the body limits.
        json: the parsed body, once it was read.
        ended_by: why the handler was cancelled, or None.
    """

    request_id: str
    reservation: ByteReservation
    room: ExitStack
    started: float = field(default_factory=time.perf_counter)
    timeline: Timeline = field(default_factory=Timeline)
    answered: int = 0
    model: str = ""
    caller: str = ""
    admitted: int = 0
    body: Body | None = None
    ended_by: BaseException | None = None
    json: Any = UNREAD

    def put(self, scope: dict[str, Any]) -> None:
        """Make it the context of the request with this ASGI ``scope``."""
        scope[_KEY] = self


def context_of(request: Request) -> Context:
    """The context that the outermost middleware made for ``request``."""
    return request.scope[_KEY]


def service_of(request: Request) -> Service:
    """The service of the application of ``request``."""
    return request.app.state.service
