"""docker/compose.yaml brought up by Docker Compose itself, with podman in the place of Docker's daemon.

Grafana's image is not there, so it is left out; Prometheus is Debian's, in the place of its own image.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from podman_runs import Podman, free_port

TREE = Path(__file__).parents[2]
COMPOSE = TREE / ".venv-deploy" / "bin" / "docker-compose"
KEY = "s3cret"
# As the image of its authors is: the same options, and a user that is not root.
PROMETHEUS = """
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && install -d -o 65534 -g 65534 /prometheus
USER 65534
ENTRYPOINT ["prometheus", "--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""


@pytest.fixture(scope="module")
def prometheus(podman: Podman, base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of an image."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "Dockerfile").write_text(PROMETHEUS)
    name = "localhost/tritonvision-test-prometheus:1"
    podman("build", "--network=host", f"--build-arg=BASE={base}", f"--tag={name}", str(folder))
    return name


@pytest.fixture(scope="module")
def compose(
    podman: Podman, image: Callable[[str], str], prometheus: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., str]]:
    """``compose("up", ...)``: what Docker Compose printed; ``compose.url`` is where the server will be published."""
    image("cpu"), image("exporter")
    root = tmp_path_factory.mktemp("up")
    for name in ("docker", "deploy/monitoring", "docs/dashboards"):
        shutil.copytree(TREE / name, root / name, ignore=shutil.ignore_patterns("secrets"))
    (root / "docker" / "secrets").mkdir()
    for name in ("api_key", "grafana_password"):
        (root / "docker" / "secrets" / name).write_text(f"{KEY}\n")
    (root / "docker" / "here.yaml").write_text(yaml.safe_dump({"services": {"prometheus": {"image": prometheus}}}))
    address, socket = f"127.0.0.1:{free_port()}", f"unix://{root}/podman.sock"
    daemon = subprocess.Popen(
        ["podman", "system", "service", "--time=0", socket], env=podman.environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    surroundings = {**podman.environment, "DOCKER_HOST": socket, "TRITONVISION_PUBLISH": address}

    def call(*arguments: str) -> str:
        files = ("-f", "docker/compose.yaml", "-f", "docker/here.yaml")
        done = subprocess.run(
            [str(COMPOSE), "--project-name", f"{podman.prefix}-up", *files, *arguments],
            cwd=root, env=surroundings, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    call.url = f"http://{address}"  # type: ignore[attr-defined]
    try:
        give_up = time.monotonic() + 20
        while not (root / "podman.sock").exists():
            assert daemon.poll() is None and time.monotonic() < give_up, "podman's service did not start"
            time.sleep(0.1)
        yield call
        call("--profile", "cpu", "--profile", "export", "down", "--volumes")
        left = [podman(kind, "ls", "--format={{.Name}}").split() for kind in ("volume", "network")]
        left.append(podman("ps", "--all", "--format={{.Names}}").split())
        assert not [name for names in left for name in names if name.startswith(f"{podman.prefix}-up")]
    finally:
        daemon.terminate()
        daemon.wait()


def test_one_command_publishes_a_model_and_one_brings_up_what_serves_it(podman, compose, ask):
    compose("run", "--rm", "-T", "exporter", "export", "resnet18", "--weights", "random", "--engine", "onnxruntime")
    compose("--profile", "cpu", "up", "--detach", "--no-build", "cpu", "prometheus")
    podman.wait_ready(f"{podman.prefix}-up-cpu-1", compose.url)
    question = {"model_id": "resnet18", "confidence": 0}
    assert ask(compose.url, "/infer/classification", KEY, **question)["predictions"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(compose.url, "/infer/classification", **question)
    assert refused.value.code == 401
    state = json.loads(podman("inspect", f"{podman.prefix}-up-cpu-1"))[0]
    assert state["HostConfig"]["ReadonlyRootfs"] and not state["EffectiveCaps"]
    assert state["HostConfig"]["ShmSize"] == 2**30 and state["HostConfig"]["Memory"] == 4 * 2**30

    # the Prometheus beside it, which publishes no port, finds it by its name, and has read the alerts
    container = f"{podman.prefix}-up-prometheus-1"
    address = podman("inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container).strip()
    give_up = time.monotonic() + 60
    while not (up := _told(f"http://{address}:9090/api/v1/query?query=up==1")["result"]):
        assert time.monotonic() < give_up, podman.log(container)
        time.sleep(0.5)
    assert up[0]["metric"]["instance"] == "tritonvision:9001"
    (group,) = _told(f"http://{address}:9090/api/v1/rules")["groups"]
    wanted = yaml.safe_load((TREE / "deploy" / "monitoring" / "alerts.yaml").read_text())["groups"][0]["rules"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in wanted]


def _told(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=10) as reply:
        return json.load(reply)["data"]
