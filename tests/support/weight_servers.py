"""Local servers with the answers of those that weights are fetched from: the Hugging Face hub, and Roboflow."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

COMMIT = "1" * 40


@dataclass
class Repository:
    """One repository of the hub.

    Attributes:
        token: without which nobody may read it.
        gated: whether that token is not enough.
        cut: bytes after which a connection is closed, by file; each entry counts for one request.
        refused: statuses with headers that the next requests of any kind get.
    """

    files: dict[str, bytes]
    card: dict = field(default_factory=dict)
    token: str = ""
    gated: bool = False
    revisions: tuple[str, ...] = ("main", COMMIT)
    cut: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    refused: list[tuple[int, dict[str, str]]] = field(default_factory=list)


class Answering(BaseHTTPRequestHandler):
    """What both servers need: JSON, errors, and files by ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing."""

    def json(self, value, status: int = 200) -> None:
        self.send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def error(self, status: int, **headers: str) -> None:
        self.send(status, headers, b"")

    def send(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:cut])
        if cut is not None and cut < len(body):
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)

    def file(self, data: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        asked = self.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        self.server.ranges.append(start)
        if start:
            headers = headers | {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        self.send(206 if start else 200, headers, data[start:], cut)


class _Hub(Answering):
    def do_GET(self):  # noqa: N802 - so http.server calls it
        path = urlsplit(self.path).path.strip("/").split("/")
        about = path[:2] == ["api", "models"]
        owner, name, *rest = path[2:] if about else path
        repository = self.server.repositories.get(f"{owner}/{name}")
        if repository is not None and repository.refused:
            status, headers = repository.refused.pop(0)
            return self.error(status, **headers)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repository is None or (repository.token and not token):
            return self.error(401, X_Error_Code="RepoNotFound", X_Error_Message="Repository not found")
        if repository.token and token != repository.token:
            return self.error(401, X_Error_Message="Invalid credentials in Authorization header")
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in repository.revisions:
            return self.error(404, X_Error_Code="RevisionNotFound", X_Error_Message="Invalid rev id")
        if about:
            return self.json({
                "id": f"{owner}/{name}", "sha": COMMIT, "gated": "manual" if repository.gated else False,
                "cardData": repository.card, "siblings": [{"rfilename": file} for file in repository.files],
            })  # fmt: skip
        file = "/".join(rest[2:])
        if repository.gated:
            return self.error(403, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted")
        if file not in repository.files:
            return self.error(404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT)
        data, cuts = repository.files[file], repository.cut[file]
        cut = cuts.pop(0) if cuts and self.command == "GET" else None
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        self.file(data, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, cut)

    do_HEAD = do_GET  # noqa: N815


class _Roboflow(Answering):
    def do_GET(self):  # noqa: N802
        url = urlsplit(self.path)
        if url.path.startswith("/files/"):
            name = url.path.removeprefix("/files/")
            cuts = self.server.cut[name]
            return self.file(self.server.files[name], {}, cuts.pop(0) if cuts else None)
        if self.server.refused:
            status, headers = self.server.refused.pop(0)
            return self.error(status, **headers)
        if url.path != "/models/v1/external/weights":
            return self.error(404)
        asked = parse_qs(url.query)
        if self.headers.get("Authorization") != f"Bearer {self.server.key}":
            return self.error(401)
        if asked["modelId"] != [self.server.model_id]:
            return self.error(404)
        page = int(asked.get("startAfter", ["0"])[0])
        self.json({"modelMetadata": {
            "type": "external-model-metadata-v1", "modelId": self.server.model_id, "modelArchitecture": "yolov8",
            "modelVariant": "yolov8n", "taskType": self.server.task, "modelPackages": self.server.pages[page],
            "nextPage": str(page + 1) if page + 1 < len(self.server.pages) else None,
        }})  # fmt: skip


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Nothing: clients that break a connection are meant to."""


@contextmanager
def _running(handler: type[Answering]) -> Iterator[ThreadingHTTPServer]:
    server = _Server(("127.0.0.1", 0), handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.ranges = []  # the first byte that each request for a file asked for
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hub(repositories: dict[str, Repository]) -> Iterator[ThreadingHTTPServer]:
    """A hub with these repositories, by ``OWNER/NAME``; its ``url`` is what HF_ENDPOINT names."""
    with _running(_Hub) as server:
        server.repositories = repositories
        yield server


@contextmanager
def roboflow(model_id: str, key: str, files: dict[str, bytes]) -> Iterator[ThreadingHTTPServer]:
    """Roboflow's weights of one project; its ``pages`` list packages, at first one with a graph and these ``files``."""
    with _running(_Roboflow) as server:
        server.model_id, server.key, server.files = model_id, key, files
        server.cut, server.refused, server.task = defaultdict(list), [], "object-detection"
        server.pages = [[package(server, files)]]
        yield server


def package(server, files, manifest: str = "onnx-model-package-v1", **about) -> dict:
    """What the API tells of one package."""
    return {
        "type": "external-model-package-v1", "packageId": f"{manifest}-1", "trustedSource": True,
        "packageManifest": {
            "type": manifest, "backendType": "onnx", "dynamicBatchSize": True, "quantization": "fp32", "opset": 17,
            **about,
        },
        "packageFiles": [
            {"fileHandle": name, "downloadUrl": f"{server.url}/files/{name}", "md5Hash": hashlib.md5(data).hexdigest()}
            for name, data in files.items()
        ],
    }  # fmt: skip
