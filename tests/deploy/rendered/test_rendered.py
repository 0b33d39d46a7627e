"""deploy/ and docker/ in the hands of the programs that will read them, and of those that look for mistakes."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

TREE = Path(__file__).parents[3]
KUBERNETES = "1.37"
OVERLAYS = ["cpu", "gpu", "jobs", "kserve", "mine"]
OTHERS = {"ScaledObject", "ClusterServingRuntime", "InferenceService"}  # kinds that Kubernetes itself does not have


def of_kind(manifests: list[dict], kind: str) -> dict:
    return next(document for document in manifests if document["kind"] == kind)


def test_the_overlays_are_these(manifests):
    assert sorted(manifests) == OVERLAYS


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_takes_every_manifest_and_knows_every_field(manifests, overlay):
    for document in manifests[overlay]:
        if document["kind"] not in OTHERS:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_field_that_is_misspelt_would_be_found(manifests):
    document = copy.deepcopy(of_kind(manifests["cpu"], "Deployment"))
    document["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_kserve_takes_the_runtime_and_the_example(manifests, schemas):
    theirs = [document for document in manifests["kserve"] if document["kind"] in OTHERS]
    assert len(theirs) == 2
    for document in theirs:
        jsonschema.validate(document, schemas[document["apiVersion"], document["kind"]])
    wrong = copy.deepcopy(of_kind(manifests["kserve"], "InferenceService"))
    wrong["spec"]["predictor"]["model"]["storageUrl"] = "pvc://x"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schemas[wrong["apiVersion"], wrong["kind"]])


def test_every_image_is_one_of_ours_with_its_version(manifests):
    images = {name for documents in manifests.values() for name in re.findall(r"'image': '([^']+)'", str(documents))}
    ours = {f"tritonvision-{name}:0.1.0" for name in ("cpu", "server", "exporter")}
    assert images == ours | {"registry.example/vision/tritonvision-server:0.1.0"}


def test_plans_are_built_before_the_server_starts_on_the_gpu_that_it_gets(manifests):
    spec = of_kind(manifests["mine"], "Deployment")["spec"]["template"]["spec"]
    first, server = spec["initContainers"][0], spec["containers"][0]
    assert first["resources"]["limits"]["nvidia.com/gpu"] == server["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert server["args"] == ["serve", "--repository", "/plans"]
    assert {"name": "plans", "mountPath": "/plans"} in first["volumeMounts"]
    assert {"name": "plans", "mountPath": "/plans"} in server["volumeMounts"]


def test_where_keda_counts_replicas_the_deployment_does_not(manifests):
    assert "replicas" not in of_kind(manifests["mine"], "Deployment")["spec"]
    scaled = of_kind(manifests["mine"], "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == of_kind(manifests["mine"], "Deployment")["metadata"]["name"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_checkov_finds_nothing_in_a_manifest_that_is_not_said(run, manifests, overlay, tmp_path):
    path = tmp_path / "manifests.yaml"
    documents = manifests[overlay]
    if overlay == "jobs":  # they run beside what the overlays apply
        documents = documents + [document for document in manifests["cpu"] if document["kind"] == "NetworkPolicy"]
    path.write_text(yaml.safe_dump_all([known_to_checkov(document) for document in documents]))
    assert _found(run, "kubernetes", path) == []


def known_to_checkov(document: dict) -> dict:
    """It knows no runtime of KServe, which is looked at as the pod that it becomes, and no name that is yet to be."""
    if document["kind"] == "ClusterServingRuntime":
        spec = {name: document["spec"][name] for name in ("containers", "volumes")}
        spec |= {"automountServiceAccountToken": False, "securityContext": {"runAsNonRoot": True}}  # of the service
        labels = {"serving.kserve.io/inferenceservice": "vision"}
        metadata = {"name": "x", "namespace": "x", "labels": labels}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    metadata = {"name": document["metadata"].get("generateName"), **document["metadata"], "namespace": "x"}
    return {**document, "metadata": metadata}


@pytest.mark.parametrize("path", sorted((TREE / "docker").glob("*.Dockerfile")), ids=lambda path: path.stem)
def test_hadolint_and_checkov_find_nothing_in_a_dockerfile_that_is_not_said(run, path):
    done = run("hadolint", "--config", TREE / ".hadolint.yaml", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert _found(run, "dockerfile", path) == []


def _found(run, framework: str, path: Path) -> list[str]:
    """What checkov finds wrong, without what .checkov.yaml gives a reason for."""
    done = run(
        "checkov", "--config-file", TREE / ".checkov.yaml", "--framework", framework, "--file", path, "--skip-download",
        "--output", "json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert report.get("summary", {}).get("passed", 0) > 5, done.stdout[-2000:] + done.stderr[-2000:]
    return [f"{one['check_id']} {one['check_name']} ({one['resource']})" for one in report["results"]["failed_checks"]]


@pytest.mark.parametrize("profile", ["cpu", "gpu", "export"])
def test_docker_compose_takes_every_profile(run, profile):
    done = run("docker-compose", "--file", "docker/compose.yaml", "--profile", profile, "config")
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert ({"prometheus", "grafana", profile} if profile != "export" else {"exporter"}) == services.keys()


def test_promtool_takes_the_configuration_of_prometheus_and_the_alerts(run, tmp_path):
    config = (TREE / "docker" / "prometheus.yml").read_text()
    alerts = TREE / "deploy" / "monitoring" / "alerts.yaml"
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/alerts.yaml", str(alerts)))
    done = run("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stderr


def test_alerts_fire_when_they_should_and_not_before(run):
    done = run("promtool", "test", "rules", "alerts.test.yaml", cwd=Path(__file__).parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_replicas_are_counted_by_is_promql(run, manifests, tmp_path):
    triggers = of_kind(manifests["mine"], "ScaledObject")["spec"]["triggers"]
    served = of_kind(manifests["kserve"], "InferenceService")["spec"]["predictor"]["autoScaling"]["metrics"]
    queries = [one["metadata"]["query"] for one in triggers] + [one["external"]["metric"]["query"] for one in served]
    assert len(queries) == 4
    rules = [{"record": f"x{i}", "expr": query} for i, query in enumerate(queries)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
    done = run("promtool", "check", "rules", tmp_path / "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["ENGINE=no-such-engine"], "Error: There is no program 'no-such-engine' to build images with.\nHint: "),
        (["ENGINE=true", "IMAGES=nobody"], "Error: There is no image 'nobody'.\nHint: There are cpu, "),
        (["ENGINE=false"], "Error: 'false' does not answer.\nHint: 'false info' says why.\n"),
    ],
)
def test_make_images_says_in_a_sentence_what_it_lacks(run, asked, told):
    done = run("make", "images", *asked)
    assert done.returncode == 2 and done.stderr.startswith(told)
