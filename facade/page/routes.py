"""The page at ``/`` to try the models, its ``GET /models``, and the documentation of the routes.

Everything these pages load comes from this server: the page's own files lie in ``facade/page``, the sample is the
photograph of ``tritonvision/data``, and Swagger UI and ReDoc come with the package fastapi-offline.
"""

from __future__ import annotations

import asyncio
import os
from importlib import resources
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from tritonvision.facade.context import service_of
from tritonvision.facade.dialects.operations import MODELS
from tritonvision.facade.page.listing import Listing, listing
from tritonvision.facade.replies import reply
from tritonvision.facade.routing import Routes
from tritonvision.facade.security.access import caller_of

router = Routes(tags=[MODELS])

STATIC = "/static"
PAGES = {"/": "index.html", "/docs": "docs.html", "/redoc": "redoc.html"}
# The page loads scripts, styles and answers from this server only; pictures may also be the visitor's own.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Swagger UI and ReDoc write styles into their elements, and ReDoc searches in a worker that it makes of a blob.
_DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_POLICIES = {"index.html": _POLICY, "docs.html": _DOCS_POLICY, "redoc.html": _DOCS_POLICY}
_BORROWED = ("swagger-ui-bundle.js", "swagger-ui.css", "redoc.standalone.js")  # of fastapi-offline
_SAMPLE = "sample.png"


class Files(StaticFiles):
    """The files of the pages: with ETag, no-cache and nosniff."""

    def __init__(self) -> None:
        own = Path(str(resources.files("tritonvision.facade.page"))) / "static"
        super().__init__(directory=own)
        borrowed = Path(self.get_directories(packages=[("fastapi_offline", "static")])[0])
        self._elsewhere = {name: borrowed / name for name in _BORROWED}
        self._elsewhere[_SAMPLE] = Path(str(resources.files("tritonvision.data"))) / "astronaut.png"

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """The file called ``path`` and what the system says about it; None when there is no such file."""
        if path in self._elsewhere:
            return str(self._elsewhere[path]), self._elsewhere[path].stat()
        return super().lookup_path(path)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """StaticFiles' hook, with our headers."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        response.headers["x-content-type-options"] = "nosniff"
        response.headers["referrer-policy"] = "no-referrer"
        if path in _POLICIES:
            response.headers["content-security-policy"] = _POLICIES[path]
        return response


def add_pages(app: FastAPI) -> None:
    """Add the pages and their files to ``app``: they need no key and are not in the schema."""
    files = Files()
    app.mount(STATIC, files)
    for path, name in PAGES.items():

        async def page(request: Request, name: str = name) -> Response:
            return await files.get_response(name, request.scope)

        app.add_route(path, page, include_in_schema=False)


@router.get(
    "/models", summary="Every model, and how to ask it",
    responses={200: {"model": Listing, "description": "What is published, and what could be."}},
)  # fmt: skip
async def models(request: Request) -> Response:
    """Every published model, the route that answers it with its settings, and the ids that could be published."""
    service = service_of(request)
    loaded = {manifest.id for manifest in service.engine.loaded()}
    caller = caller_of(request)
    exports = bool(service.settings.export_missing and service.settings.triton_url is None)
    found = await asyncio.to_thread(
        listing, service.engine.repository, loaded, exports and caller.may_manage(request), caller.may_ask,
        service.engine.exportable,
    )  # fmt: skip
    return reply(found.model_dump(), headers={"cache-control": "no-store"})
