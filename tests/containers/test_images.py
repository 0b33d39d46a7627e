"""What is in the images, and the two that serve together with others: the exporter and the HTTP server alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml
from podman_runs import CONTAINED, Podman

import tritonvision

TREE = Path(__file__).parents[2]
MB = 10**6
# What docs/containers.md says that they take, rounded up; a larger one has to be a decision.
LARGEST = {"cpu": 1600, "facade": 800, "exporter": 4000}


@pytest.mark.parametrize("name", LARGEST)
def test_an_image_has_its_labels_and_size_and_no_root(podman: Podman, image, name):
    told = json.loads(podman("image", "inspect", image(name)))[0]
    assert told["Labels"]["org.opencontainers.image.title"] == f"tritonvision-{name}"
    assert told["Labels"]["org.opencontainers.image.version"] == tritonvision.__version__
    assert told["Config"]["User"] == "10001:10001"
    assert told["Healthcheck"]["Test"][0] == ("NONE" if name == "exporter" else "CMD")
    print(f"{name}: {told['Size'] / MB:.0f} MB")
    assert told["Size"] < LARGEST[name] * MB


@pytest.mark.parametrize("name", ["cpu", "facade"])
def test_what_serves_has_no_compiler_and_no_installer(podman: Podman, image, name):
    program = "for p in cc gcc g++ ld make pip pip3 git curl; do command -v $p; done; true"
    assert podman("run", "--rm", "--entrypoint=sh", image(name), "-c", program).split() == []


def test_the_versions_are_those_of_the_constraints(podman: Podman, image):
    pins = (TREE / "constraints.txt").read_text().split("\n")
    pinned = {line.split("==")[0].lower().replace("_", "-"): line.split("==")[1] for line in pins if "==" in line}
    program = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    found = json.loads(podman("run", "--rm", "--entrypoint=python", image("cpu"), "-c", program))
    del found["tritonvision"]
    for name, version in found.items():
        assert version.split("+")[0] == pinned[name.lower().replace("_", "-")], name


def test_syft_writes_what_is_in_an_image_packages_of_the_system_and_of_python(podman: Podman, image, tmp_path):
    syft = TREE / ".venv-deploy" / "bin" / "syft"
    archive = tmp_path / "facade.tar"
    podman("save", "--format=docker-archive", f"--output={archive}", image("facade"))
    done = subprocess.run(
        [str(syft), "scan", f"docker-archive:{archive}", "-q", "-o", "spdx-json"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    archive.unlink()
    found = {package["name"]: package.get("versionInfo") for package in json.loads(done.stdout)["packages"]}
    assert found["tritonvision"] == tritonvision.__version__ and found["numpy"] == "1.26.4"
    assert "libc6" in found and "tini" in found and len(found) > 150


def test_the_container_that_builds_plans_copies_the_repository_and_looks(podman: Podman, image, served_repository):
    patch = yaml.safe_load((TREE / "deploy" / "components" / "plans" / "plans.yaml").read_text())
    first = patch["spec"]["template"]["spec"]["initContainers"][0]
    (script,) = first["args"]
    assert "tritonvision plan build " in script  # which wants a GPU
    plans = podman.volume("plans")
    told = podman(
        "run", "--rm", *CONTAINED, "--network=none", f"--volume={served_repository}:/models:ro",
        f"--volume={plans}:/plans:U", f"--entrypoint={first['command'][0]}", image("cpu"), *first["command"][1:],
        script.replace("plan build", "plan list") + "ls -a /plans",
    )  # fmt: skip
    assert "No published model has a TensorRT variant." in told
    assert {".building", "mediapipe-face-detection"} <= set(told.split())


def test_what_the_exporter_publishes_a_running_server_serves(podman: Podman, image, ask):
    models = podman.volume("models")
    server = podman.start(
        "empty", image("cpu"), options=(*CONTAINED, "--publish=127.0.0.1::9001", f"--volume={models}:/models:ro")
    )
    url = podman.url(server)
    podman.wait_ready(server, url)
    podman(
        "run", "--rm", *CONTAINED, "--network=none", "--memory=4g", f"--volume={models}:/models", image("exporter"),
        "export", "resnet18", "--weights", "random", "--engine", "onnxruntime",
    )  # fmt: skip
    answer = ask(url, "/infer/classification", model_id="resnet18", confidence=0)
    assert answer["predictions"] and answer["image"] == {"width": 512, "height": 512}


def test_the_http_server_alone_asks_a_tritonserver_elsewhere(podman: Podman, image, served_repository, face):
    sockets = podman.volume("sockets")
    repository = f"--volume={served_repository}:/models:ro"
    behind = podman.start(
        "behind", image("cpu"),
        options=(*CONTAINED, "--network=none", repository, f"--volume={sockets}:/s:U", "--env=TMPDIR=/s"),
    )  # fmt: skip
    wait = "import glob, time\nwhile not (found := glob.glob('/s/*/server/grpc*')): time.sleep(0.1)\nprint(found[0])"
    socket = podman.python(behind, wait)
    front = podman.start(
        "front", image("facade"),
        options=(
            *CONTAINED, "--publish=127.0.0.1::9001", repository, f"--volume={sockets}:/s",
            f"--env=TRITONVISION_TRITON_URL=unix:{socket}",
        ),
    )  # fmt: skip
    url = podman.url(front)
    podman.wait_ready(front, url)
    face(url)
