"""Our own routes described."""

from __future__ import annotations

from typing import NotRequired

from typing_extensions import TypedDict

from tritonvision.facade.dialects.operations import Operation

_ID = "5b0c9a0e-0000-4000-8000-000000000000"


class Info(TypedDict):
    """The server."""

    name: str
    version: str
    uuid: str


class Health(TypedDict):
    """How it is, and why where it is not well."""

    status: str
    reason: NotRequired[str]


OPERATIONS: dict[tuple[str, str], Operation] = {
    ("get", "/info"): Operation("About this server", Info, {"name": "tritonvision", "version": "0.1.0", "uuid": _ID}),
    ("get", "/healthz"): Operation("Whether this process is well", Health, {"status": "healthy"}),
    ("get", "/readiness"): Operation("Whether requests are answered now", Health, {"status": "ready"}),
    ("get", "/metrics"): Operation("Figures for Prometheus", media={"text/plain": {"schema": {"type": "string"}}}),
}  # fmt: skip
