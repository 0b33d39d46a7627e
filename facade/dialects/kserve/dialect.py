"""The dialect of KServe's v2 protocol, which is also Triton's: for tritonclient and its kin."""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.kserve import errors, openapi, routes

_LIVE, _READY = "/v2/health/live", "/v2/health/ready"
KSERVE = Dialect(
    "kserve", ("v2",), (routes.router,), errors, openapi.KServeError, openapi.OPERATIONS,
    open_paths=frozenset(("/v2", _LIVE, _READY)), health_paths=frozenset((_LIVE, _READY)),
)  # fmt: skip
