"""What tests share. Imports of the package stay inside the fixtures: two environments have no tritonvision in them.

``make test`` exports the models of ``served_repository`` before the tests run: the real face model, and true
architectures with seeded random weights for detection and classification.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# The name by which starlette's client asks an application that has no address; and no test waits for load balancers.
os.environ.setdefault("TRITONVISION_ALLOWED_HOSTS", '["testserver"]')
os.environ.setdefault("TRITONVISION_DRAIN", "0")
# As in the package itself; a test module may import onnxruntime before the package.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

FACE = "mediapipe-face-detection"
TREE = Path(__file__).parents[1]
# Whoever asks for one of these starts a tritonserver, or reads models that take minutes to export.
_SERVER_FIXTURES = {"repository", "embedded", "served_repository", "publish_as", "serve_with", "server_url"}
_SERVER_FOLDERS = [TREE / "tests" / name for name in ("served", "server", "clients", "page", "chaos", "attacks/server")]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a running server: ``make test-fast`` leaves them out."""
    for item in items:
        if _SERVER_FIXTURES & set(getattr(item, "fixturenames", ())) or item.path.parent in _SERVER_FOLDERS:
            item.add_marker("server")


@pytest.fixture(scope="session")
def photo() -> bytes:
    """The photograph in the tree, as its PNG bytes."""
    return (TREE / "tritonvision" / "data" / "astronaut.png").read_bytes()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the real MediaPipe face model, exported through its gate."""
    from tritonvision.exporters import pipeline
    from tritonvision.exporters.contract import Weights

    root = tmp_path_factory.mktemp("model_repository")
    pipeline.export(FACE, Weights("official"), root)
    return root


@pytest.fixture(scope="module")
def with_variant(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of that repository whose model has the variant ``openvino-fp32``, which does not serve."""
    from tritonvision.exporters import variants

    root = Path(shutil.copytree(repository, tmp_path_factory.mktemp("with") / "models"))
    variants.add(root, FACE, "openvino", "fp32")
    return root


@pytest.fixture(scope="session")
def settings(repository: Path, tmp_path_factory: pytest.TempPathFactory):
    """Settings of a server over that repository."""
    from tritonvision.settings import Settings

    return Settings(repository=repository, log_dir=tmp_path_factory.mktemp("log"))


@pytest.fixture(scope="module")
def embedded(settings) -> Iterator:
    """A running tritonserver of our own, nothing loaded."""
    from tritonvision.server import Embedded

    server = Embedded(settings)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def keeps_the_contract() -> Callable[[type], None]:
    """``keeps_the_contract(kind)``: a class has every method the facade needs, called as the real engine's are."""
    import inspect

    from tritonvision.engine.engine import Engine
    from tritonvision.facade.data_plane import DataPlane

    def shape(method: Callable) -> tuple:
        kinds = inspect.isasyncgenfunction(method), inspect.iscoroutinefunction(method)
        return kinds, [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]

    def check(kind: type) -> None:
        for name in (n for n, member in vars(DataPlane).items() if inspect.isfunction(member) and n[0] != "_"):
            assert shape(getattr(kind, name)) == shape(getattr(Engine, name)), name
            asked = inspect.signature(getattr(DataPlane, name)).parameters
            assert list(asked) == list(inspect.signature(getattr(Engine, name)).parameters), name

    return check


@pytest.fixture(scope="session")
def served_repository() -> Path:
    """The repository that ``make test`` exported into."""
    path = Path(os.environ.get("TRITONVISION_TEST_REPOSITORY", TREE / ".cache" / "test_repository"))
    assert (path / FACE / "manifest.json").is_file(), "run 'make test', which exports the models first"
    return path


@pytest.fixture(scope="session")
def publish_as(served_repository: Path) -> Callable[[Path, str, str], None]:
    """``publish_as(root, model, name)``: a model of the tests in the repository ``root``, under another name."""

    def publish(root: Path, model: str, name: str) -> None:
        was, now = model.replace("/", "__"), name.replace("/", "__")
        manifest = json.loads((served_repository / was / "manifest.json").read_text())
        for step in manifest["steps"]:
            shutil.copytree(served_repository / step, root / step, dirs_exist_ok=True)
        for role in manifest["roles"]:
            suffix = f"--{role}" if role else ""
            own = shutil.copytree(served_repository / f"{was}{suffix}", root / f"{now}{suffix}")
            config = (own / "config.pbtxt").read_text()
            (own / "config.pbtxt").write_text(config.replace(f'name: "{was}{suffix}"', f'name: "{own.name}"', 1))
        own_files = (f"{was}/", f"{was}--")
        files = {
            now + path.removeprefix(was) if path.startswith(own_files) else path: digest
            for path, digest in manifest.get("files", {}).items()
        }
        (root / now / "manifest.json").write_text(json.dumps(manifest | {"id": name, "files": files}))

    return publish


@pytest.fixture(scope="session")
def few_models() -> dict[str, str]:
    """Environment of a server that keeps ten models: several test processes run servers at once, and with every model
    loaded each takes 7 GB.
    """
    return {"TRITONVISION_MAX_LOADED": "10"}


@pytest.fixture(scope="session")
def serve_with(served_repository: Path, few_models: dict[str, str]):
    """``with serve_with(*options) as url``: ``tritonvision serve`` in the serving environment, a process of its own."""

    @contextmanager
    def serve(*options: str) -> Iterator[str]:
        python = os.environ.get("TRITONVISION_TEST_PYTHON", str(TREE / ".venv" / "bin" / "python"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [python, "-m", "tritonvision", "serve", "--port", str(port), "--repository", str(served_repository)]
        few = {} if "--triton-url" in options else few_models
        server = subprocess.Popen(
            [*command, *options], cwd=TREE, env=os.environ | few, preexec_fn=_end_with_the_tests
        )  # fmt: skip
        url = f"http://localhost:{port}"
        try:
            wait_ready(url, server)
            yield url
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)

    return serve


@pytest.fixture(scope="session")
def server_url(serve_with) -> Iterator[str]:
    """``http://localhost:PORT`` of a server with default settings."""
    with serve_with() as url:
        yield url


def _end_with_the_tests() -> None:
    """In a new process: SIGTERM when its parent is gone (prctl(2), PR_SET_PDEATHSIG), as when memory ran out."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def wait_ready(url: str, server: subprocess.Popen) -> None:
    """Return once the server says it is ready; fail when it ends or a minute passes."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readiness", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("tritonvision serve did not become ready")
