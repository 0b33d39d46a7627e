"""The Deployment of deploy/overlays/cpu, really run: podman play kube, and a photograph asked."""

from __future__ import annotations

import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from podman_runs import Podman, free_port, status

TREE = Path(__file__).parents[2]
KEY = "s3cret"


def adapted(manifests: list[dict], port: int) -> Iterator[dict]:
    """What podman 4.3 runs of them: no volume at /dev/shm, which it would make unwritable, and a port of the host."""
    for document in manifests:
        if document["kind"] not in ("Deployment", "ConfigMap"):  # the claim is a volume, which is filled beforehand
            continue
        document["metadata"].pop("namespace")
        if document["kind"] == "Deployment":
            document["spec"]["replicas"] = 1
            spec = document["spec"]["template"]["spec"]
            spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "shared-memory"]
            (container,) = spec["containers"]
            container["image"] = f"localhost/{container['image']}"
            container["ports"][0] |= {"hostPort": port, "hostIP": "127.0.0.1"}
            container["volumeMounts"] = [one for one in container["volumeMounts"] if one["name"] != "shared-memory"]
        yield document


@pytest.fixture(scope="module")
def pod(
    podman: Podman, image: Callable[[str], str], served_repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """The name of the container that the Deployment's pod has, and its address."""
    image("cpu")
    kubectl = TREE / ".venv-deploy" / "bin" / "kubectl"
    rendered = subprocess.run(
        [str(kubectl), "kustomize", "deploy/overlays/cpu"], cwd=TREE, check=True, capture_output=True, text=True
    )
    port = free_port()
    documents = [*adapted(list(yaml.safe_load_all(rendered.stdout)), port)]
    folder = tmp_path_factory.mktemp("kube")
    models = folder / "models.tar"
    subprocess.run(["tar", "-C", str(served_repository), "-cf", str(models), "."], check=True)
    podman("volume", "create", "tritonvision-models")
    podman("volume", "import", "tritonvision-models", str(models))
    models.unlink()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tritonvision"},
              "data": {"tritonvision_api_key": b64encode(KEY.encode()).decode()}}  # fmt: skip
    (folder / "secret.yaml").write_text(yaml.safe_dump(secret))
    (folder / "kube.yaml").write_text(yaml.safe_dump_all(documents))
    try:
        podman("play", "kube", str(folder / "secret.yaml"))
        podman("play", "kube", str(folder / "kube.yaml"))
        name = podman("ps", "--filter=name=tritonvision-pod", "--format={{.Names}}").split()
        server = next(one for one in name if one.endswith("server"))
        url = f"http://127.0.0.1:{port}"
        podman.wait_ready(server, url)
        yield server, url
    finally:
        podman.fails("play", "kube", "--down", str(folder / "kube.yaml"))
        for volume in ("tritonvision-models", "tritonvision"):  # the second is the secret
            podman.fails("volume", "rm", "--force", volume)
        podman.fails("secret", "rm", "tritonvision")


def test_the_deployment_of_the_overlay_answers_with_its_key_and_not_without(podman, pod, face):
    # podman 4.3 mounts a secret as the base64 that it was given, later ones as Kubernetes does
    key = podman.python(pod[0], "print(open('/run/secrets/tritonvision/tritonvision_api_key').read())")
    assert key in (KEY, b64encode(KEY.encode()).decode())
    face(pod[1], key)
    assert status(f"{pod[1]}/model/registry") == 401


def test_it_has_the_rights_that_the_deployment_gives_it(podman, pod):
    program = r"import re; print(*re.findall(r'(?:Uid|CapEff|NoNewPrivs):\t(\w+)', open('/proc/self/status').read()))"
    assert podman.python(pod[0], program) == "10001 0000000000000000 1"
    refused = podman.python(pod[0], "try:\n open('/opt/x', 'w')\nexcept OSError as e: print(e.strerror)")
    assert refused == "Read-only file system"
