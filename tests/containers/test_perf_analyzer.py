"""NVIDIA's perf_analyzer asks the image that serves, over both forms of KServe's v2 protocol."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from podman_runs import CONTAINED, Podman

WHEEL = "perf-analyzer==2.60.0"
PLATFORM = "manylinux_2_38_x86_64"  # newer than bookworm's libc: it runs in an image of trixie


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: bytes) -> Path:
    """The program, and the photograph as it reads one: BYTES are their length in four bytes and they."""
    path = tmp_path_factory.mktemp("perf_analyzer")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--only-binary=:all:", f"--platform={PLATFORM}",
         f"--dest={path}", WHEEL],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = path.glob("*.whl")
    program = path / "perf_analyzer"
    with zipfile.ZipFile(wheel) as archive:
        program.write_bytes(archive.read("perf_analyzer/bin/perf_analyzer"))
    wheel.unlink()
    program.chmod(0o755)
    picture = {"b64": b64encode(struct.pack("<I", len(photo)) + photo).decode()}
    told = {"data": [{"image": picture, "parameters": ['{"confidence": 0.2}']}]}
    (path / "photograph.json").write_text(json.dumps(told))
    return path


@pytest.fixture(scope="module")
def server(podman: Podman, image: Callable[[str], str], served_repository: Path) -> Iterator[str]:
    """A container that serves a detector and a classifier over HTTP and gRPC."""
    options = (*CONTAINED, "--publish=127.0.0.1::9001", "--publish=127.0.0.1::9002", "--shm-size=1g")
    command = ("serve", "yolov8n-640", "resnet18", "--grpc-port", "9002")
    name = podman.start(
        "measured", image("cpu"), *command, options=(*options, f"--volume={served_repository}:/models:ro")
    )
    podman.wait_ready(name, podman.url(name))
    yield name
    podman("stop", "--time=30", name)


@pytest.mark.parametrize("model", ["yolov8n-640", "resnet18"])
@pytest.mark.parametrize(("protocol", "port"), [("http", 9001), ("grpc", 9002)])
def test_it_measures_a_model_and_reads_the_counts_of_the_server(podman, debian, server, folder, model, protocol, port):
    told = podman(
        "run", "--rm", "--network=host", f"--volume={folder}:/own:ro",
        debian("trixie", "libstdc++6", "libssl3t64", "zlib1g"), "/own/perf_analyzer", "-m", model, "-i", protocol,
        "-u", podman.address(server, port), "--input-data", "/own/photograph.json", "--concurrency-range", "2",
        "--request-count", "12",
    )  # fmt: skip
    print(told)
    counts = [line.split()[-1] for line in told.splitlines() if "equest count:" in line]
    assert counts == ["12", "12"], told  # the client's, and the server's successes
    assert "Failed" not in told
