"""The programs that read deploy/ and docker/: ``make test-deploy`` installs them into an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

TREE = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run("hadolint", FILE)``: a program of this environment, or of the machine; the caller looks at its status."""
    own = Path(sys.prefix) / "bin"

    def call(program: str, *arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        path = own / program if (own / program).exists() else shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is not installed")
        told = {"capture_output": True, "text": True, "timeout": 300, "check": False, "cwd": TREE, **options}
        return subprocess.run([str(path), *map(str, arguments)], **told)  # type: ignore[call-overload]

    return call


@pytest.fixture(scope="session")
def render(run) -> Callable[[Path], list[dict]]:
    """``render(folder)``: the manifests that kubectl would apply."""

    def build(folder: Path) -> list[dict]:
        done = run("kubectl", "kustomize", folder)
        assert done.returncode == 0, done.stderr[-2000:]
        return [document for document in yaml.safe_load_all(done.stdout) if document]

    return build


@pytest.fixture(scope="session")
def manifests(render, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict]]:
    """What each overlay of deploy/ renders to, and ``mine``, which docs/kubernetes.md writes; and the jobs."""
    deploy = Path(shutil.copytree(TREE / "deploy", tmp_path_factory.mktemp("copy") / "deploy"))
    own = deploy / "overlays" / "mine"
    own.mkdir()
    text = (TREE / "docs" / "kubernetes.md").read_text()
    begin = "```yaml\n# deploy/overlays/mine/kustomization.yaml\n"
    assert text.count(begin) == 1
    (own / "kustomization.yaml").write_text(text.split(begin)[1].split("```")[0])
    rendered = {folder.name: render(folder) for folder in sorted((deploy / "overlays").iterdir())}
    jobs = sorted((deploy / "jobs").iterdir())
    return rendered | {"jobs": [document for path in jobs for document in yaml.safe_load_all(path.read_text())]}


@pytest.fixture(scope="session")
def schemas() -> dict[tuple[str, str], dict]:
    """KServe's own schemas, by version and kind, from the folder of its definitions that a variable names."""
    folder = os.environ.get("TRITONVISION_KSERVE_CRDS")
    if not folder:
        pytest.skip("TRITONVISION_KSERVE_CRDS does not name the folder of KServe's custom resource definitions")
    found = {}
    for path in Path(folder).glob("serving.kserve.io_*.yaml"):
        spec = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = _strict(schema)
    return found


def _strict(schema: dict) -> dict:
    """A copy that refuses fields it does not know, as an API server does for people's files."""
    copy = json.loads(json.dumps(schema))
    waiting = [copy]
    while waiting:
        one = waiting.pop()
        if "properties" in one and not one.get("x-kubernetes-preserve-unknown-fields"):
            one.setdefault("additionalProperties", False)
        if one.get("x-kubernetes-int-or-string"):
            one.pop("type", None)
        waiting += [value for value in one.get("properties", {}).values()]
        waiting += [one[name] for name in ("items", "additionalProperties") if isinstance(one.get(name), dict)]
    for field in ("metadata", "apiVersion", "kind"):
        copy["properties"][field] = {}
    return copy
