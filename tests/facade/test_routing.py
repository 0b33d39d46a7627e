"""A router is asked only about paths that can be its own, and then answers as FastAPI's does."""

import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient

from tritonvision.facade.routing import Routes

PATHS = ("/", "/models", "/models/{name:path}", "/infer/object_detection", "/infer/depth/{name:path}")
ASKED = (
    "/", "", "/models", "/models/", "/models/a/b", "/model", "/infer", "/infer/object_detection", "//models", "/x/1",
    "/infer/depth/a/b", "/Models", "/models%2Fa",
)  # fmt: skip


def app_of(kind, paths) -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    for path in paths:
        router = kind()
        router.add_api_route(path, lambda path=path: path, methods=["GET"])
        app.include_router(router)
    return app


@pytest.mark.parametrize("paths", [PATHS, (*PATHS, "/{project}/{version}")])
def test_every_path_reaches_the_route_that_fastapi_alone_finds(paths):
    ours, theirs = (TestClient(app_of(kind, paths)) for kind in (Routes, APIRouter))
    for asked in ASKED:
        for method in ("GET", "POST"):
            mine, other = (client.request(method, asked) for client in (ours, theirs))
            assert (mine.status_code, mine.text, mine.headers.get("allow")) == (
                other.status_code, other.text, other.headers.get("allow"),
            )  # fmt: skip


def test_a_router_of_other_paths_does_not_try_its_routes(monkeypatch):
    tried = []
    monkeypatch.setattr(APIRouter, "matches", lambda self, scope: tried.append(self.routes[0].path))
    router = Routes()
    router.add_api_route("/models/{name}", lambda: None)
    router.matches({"type": "http", "method": "GET", "path": "/infer/object_detection"})
    assert not tried
    router.matches({"type": "http", "method": "GET", "path": "/models/x"})
    assert tried == ["/models/{name}"]
