"""A server as the guide of Roboflow's server takes it for granted: a user's own models, and a picture on the web.

Nothing here imports the package: one of the two environments that use it has no tritonvision in it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "tritonvision" / "data"
PHOTO = "astronaut.png"
# The project of the guide, with a version for each task it names.
VERSIONS = {1: "yolov8n-640", 2: "resnet18", 3: "yolov8n-seg-640"}
PROJECT = "soccer-players-5fuqs"


@dataclass(frozen=True)
class Guide:
    """What the guide's snippets name.

    Attributes:
        url: of the server.
        image_url: of a picture, on another server.
        file_name: of the same picture.
    """

    url: str
    image_url: str
    file_name: str
    project_id: str = PROJECT


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def guide_repository(publish_as, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test models, each under the name that a user gave it when exporting it."""
    root = tmp_path_factory.mktemp("guide") / "repository"
    root.mkdir()
    for version, model in VERSIONS.items():
        publish_as(root, model, f"{PROJECT}/{version}")
    return root


@pytest.fixture(scope="session")
def guide(serve_with, guide_repository: Path) -> Iterator[Guide]:
    """A server of the user's models that may fetch from this machine; nothing is loaded."""
    pictures = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=DATA))
    thread = threading.Thread(target=pictures.serve_forever)
    thread.start()
    name = "TRITONVISION_ALLOW_HTTP_URL_HOSTS"
    before = os.environ.get(name)
    os.environ[name] = '["127.0.0.1"]'
    try:
        with serve_with("--repository", str(guide_repository)) as url:
            yield Guide(url, f"http://127.0.0.1:{pictures.server_port}/{PHOTO}", str(DATA / PHOTO))
    finally:
        pictures.shutdown()
        thread.join()
        pictures.server_close()
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
