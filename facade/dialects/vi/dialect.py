"""The dialect of Datature Vi."""

from __future__ import annotations

from tritonvision.facade.dialects.base import Dialect
from tritonvision.facade.dialects.vi import errors, openapi, routes

VI = Dialect("vi", ("vi",), (routes.router,), errors, openapi.ViError, openapi.OPERATIONS)
