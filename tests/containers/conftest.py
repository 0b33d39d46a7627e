"""The images of docker/, really built and run by podman; ``make containers`` runs these tests, ``make test`` does not.

Where no registry is within reach, the base is made by debootstrap; ``TRITONVISION_TEST_BASE`` names an image instead.
pip's configuration of this machine goes into the builds as a secret, and the folders and files that it names as mounts.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from podman_runs import Podman

TREE = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where a program is missing, every test here is skipped, and says so."""
    missing = [program for program in ("podman", "runc", "debootstrap") if shutil.which(program) is None]
    if missing or os.geteuid():
        why = f"{', '.join(missing)} not installed: apt-get install podman runc debootstrap" if missing else "not root"
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman with runc, also where there is no systemd; what tests leave running is removed at the end."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    config = tmp_path_factory.mktemp("podman") / "containers.conf"
    config.write_text(
        f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=32768:32768"]\n'
        '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
        "compat_api_enforce_docker_hub = false\n"  # a name of Docker Compose without a registry is one of this machine
    )
    runs = Podman(f"tv-{uuid.uuid4().hex[:8]}", {**os.environ, "CONTAINERS_CONF": str(config)})
    yield runs
    runs.remove_all()


@pytest.fixture(scope="session")
def debian(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """``debian("trixie", "zlib1g", ...)``: an image of that release with these packages, made where it is not there."""

    def make(release: str, *packages: str) -> str:
        name = f"localhost/tritonvision-base:{release}"
        if not podman.fails("image", "exists", name):
            return name
        root = tmp_path_factory.mktemp("base") / "root"
        subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(('ca-certificates', *packages))}", release,
             str(root)],
            check=True, capture_output=True,
        )  # fmt: skip
        archive = root.with_suffix(".tar")
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        shutil.rmtree(root)
        podman("import", str(archive), name)
        archive.unlink()
        return name

    return make


@pytest.fixture(scope="session")
def base(debian: Callable[..., str]) -> str:
    """The image that all others begin with."""
    return os.environ.get("TRITONVISION_TEST_BASE") or debian("bookworm")


@pytest.fixture(scope="session")
def image(podman: Podman, base: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """``image("cpu")``: the name of that image, built from this tree."""
    config = tmp_path_factory.mktemp("pip") / "pip.conf"
    mounts = _pip_of_this_machine(config)
    built: dict[str, str] = {}

    def build(name: str) -> str:
        if name not in built:
            tag = f"localhost/tritonvision-{name}:0.1.0"
            podman(
                "build", "--format=docker", "--network=host", f"--build-arg=BASE={base}", *mounts,
                f"--secret=id=pip,src={config}", f"--file={TREE}/docker/{name}.Dockerfile", f"--tag={tag}", str(TREE),
                seconds=1200,
            )  # fmt: skip
            built[name] = tag
        return built[name]

    return build


def _pip_of_this_machine(config: Path) -> list[str]:
    """Write pip's configuration into one file; mounts of what lies on this machine of that."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True)
    values = {}
    for line in told.stdout.splitlines():
        name, _, value = line.partition("=")
        values[re.sub(r"^(global|:env:)\.", "", name)] = ast.literal_eval(value)
    config.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in values.items()))
    paths = {word.removeprefix("file://") for value in values.values() for word in value.split()}
    wanted = {_outermost(Path(path)) for path in paths if path.startswith("/") and Path(path).exists()}
    return [f"--volume={path}:{path}:ro" for path in sorted(wanted)]


def _outermost(path: Path) -> Path:
    """A folder of an index stands below the one that its links lead to."""
    return path if path.is_file() else Path(*path.parts[:3])


@pytest.fixture(scope="session")
def ask(photo: bytes) -> Callable[..., dict]:
    """``ask(url, path, key, **fields)``: the answer to the photograph; HTTPError where there is none."""
    from base64 import b64encode

    def post(url: str, path: str, key: str = "", **fields: object) -> dict:
        body = {"image": {"type": "base64", "value": b64encode(photo).decode()}, **fields}
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        request = urllib.request.Request(f"{url}{path}", json.dumps(body).encode(), headers)
        with contextlib.closing(urllib.request.urlopen(request, timeout=60)) as reply:
            return json.load(reply)

    return post


@pytest.fixture(scope="session")
def face(ask: Callable[..., dict]) -> Callable[..., None]:
    """``face(url)``: the face model finds the astronaut."""

    def check(url: str, key: str = "") -> None:
        found = ask(url, "/infer/keypoints_detection", key, model_id="mediapipe-face-detection")
        assert [round(one["confidence"], 1) for one in found["predictions"]] == [0.9]

    return check
