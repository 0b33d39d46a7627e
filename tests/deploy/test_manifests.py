"""What compose.yaml, deploy/ and the alert rules name is there: files, settings, routes, metrics, images."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from dockerfiles import IMAGES
from memory_engine import MemoryEngine
from starlette.testclient import TestClient

import tritonvision
from tritonvision.facade.app import create_app
from tritonvision.settings import Settings

TREE = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((TREE / "docker" / "compose.yaml").read_text())
ALERTS = yaml.safe_load((TREE / "deploy" / "monitoring" / "alerts.yaml").read_text())
MANIFESTS = sorted((TREE / "deploy").rglob("*.yaml"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
SETTINGS = {f"TRITONVISION_{name.upper()}" for name in Settings.model_fields}


def documents() -> Iterator[tuple[Path, dict]]:
    for path in MANIFESTS:
        for document in yaml.safe_load_all(path.read_text()):
            yield path, document


def containers() -> Iterator[tuple[Path, dict]]:
    """Of Deployments and runtimes; those of a patch have their changes alone."""
    for path, document in documents():
        spec = document.get("spec", {})
        spec = spec.get("template", {}).get("spec", spec) if isinstance(spec, dict) else {}
        for container in [*spec.get("containers", ()), *spec.get("initContainers", ())]:
            yield path, container


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every name that a query may ask of /metrics."""
    root = tmp_path_factory.mktemp("models")
    with TestClient(create_app(MemoryEngine(root), Settings(repository=root))) as client:
        text = client.get("/metrics").text
    kinds = re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M)
    ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    return {name + end for name, kind in kinds for end in ends[kind]}


def test_there_is_no_file_in_docker_that_no_image_or_service_is_made_of():
    mounts = [volume.split(":")[0] for service in COMPOSE["services"].values() for volume in service["volumes"]]
    mounted = {(TREE / "docker" / source).resolve() for source in mounts}
    known = {*mounted, TREE / "docker" / "compose.yaml", *(TREE / "docker" / f"{name}.Dockerfile" for name in IMAGES)}
    files = {path for path in (TREE / "docker").rglob("*") if path.is_file() and path.parent.name != "secrets"}
    assert files <= known and len(files) >= 8


def test_there_is_no_file_in_deploy_that_no_test_renders_or_reads():
    # what is rendered: each overlay, and the one in docs/kubernetes.md, which has the components
    waiting = sorted((TREE / "deploy" / "overlays").iterdir())
    own = (TREE / "docs" / "kubernetes.md").read_text().split("# deploy/overlays/mine/kustomization.yaml")[1]
    waiting += [waiting[0] / path for path in yaml.safe_load(own.split("```")[0])["components"]]
    reached = {TREE / "deploy" / "monitoring" / "alerts.yaml", *(TREE / "deploy" / "jobs").iterdir()}
    while waiting:
        path = waiting.pop().resolve()
        if path.is_dir():
            told = yaml.safe_load((path / "kustomization.yaml").read_text())
            patches = [patch["path"] for patch in told.get("patches", ()) if "path" in patch]
            waiting += [path / name for name in (*told["resources"], *told.get("components", ()), *patches)]
            path /= "kustomization.yaml"
        reached.add(path)
    assert reached == {path for path in (TREE / "deploy").rglob("*") if path.is_file()}


def test_every_file_that_compose_mounts_is_there_or_is_a_secret():
    for service in COMPOSE["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] if "/" not in source else (TREE / "docker" / source).is_file(), volume
    ignored = (TREE / ".gitignore").read_text().splitlines()
    assert "docker/secrets/" in ignored and all(s["file"].startswith("./secrets/") for s in COMPOSE["secrets"].values())


def test_the_secrets_of_compose_are_settings():
    for service in ("cpu", "gpu"):
        for secret in COMPOSE["services"][service]["secrets"]:
            assert secret.upper() in SETTINGS


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_no_container_of_compose_has_rights_or_a_root_that_it_does_not_need(name):
    service = COMPOSE["services"][name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["tmpfs"] == ["/tmp"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not re.search(r"(:latest|^[^:]+)$", service["image"])
    ports = [port.replace("${TRITONVISION_PUBLISH:-", "") for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_grafana_reads_the_dashboard_from_where_it_is_mounted_and_asks_the_prometheus_beside_it():
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in COMPOSE["services"]["grafana"]["volumes"])
    provisioned = {
        kind: yaml.safe_load((TREE / "docker" / "grafana" / f"{kind}.yaml").read_text())
        for kind in ("datasources", "dashboards")
    }
    for kind in provisioned:
        assert mounts[f"./grafana/{kind}.yaml"].startswith(f"/etc/grafana/provisioning/{kind}/")
    (provider,), (source,) = provisioned["dashboards"]["providers"], provisioned["datasources"]["datasources"]
    (shown,) = (path for path in mounts if path.endswith(".json"))
    assert json.loads((TREE / "docker" / shown).read_text())["title"] == "tritonvision"
    assert str(Path(mounts[shown]).parent) == provider["options"]["path"]
    assert "prometheus" in COMPOSE["services"] and source["url"] == "http://prometheus:9090"
    scraped = yaml.safe_load((TREE / "docker" / "prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_prometheus_scrapes_the_name_and_port_of_the_server_and_reads_the_alerts_from_where_they_are_mounted():
    config = yaml.safe_load((TREE / "docker" / "prometheus.yml").read_text())
    mounts = dict(volume.removesuffix(":ro").split(":") for volume in COMPOSE["services"]["prometheus"]["volumes"])
    assert config["rule_files"] == [mounts["../deploy/monitoring/alerts.yaml"]]
    (job,) = config["scrape_configs"]
    ((target,),) = (one["targets"] for one in job["static_configs"])
    name, port = target.split(":")
    for service in (COMPOSE["services"]["cpu"], COMPOSE["services"]["gpu"]):
        assert service["networks"]["default"]["aliases"] == [name] and service["ports"][0].endswith(f":{port}")
    assert all(f'job="{job["job_name"]}"' in rule["expr"] for rule in RULES if "up{" in rule["expr"])


def test_images_of_ours_have_the_version_of_the_package():
    told = [service["image"] for service in COMPOSE["services"].values()]
    for _, document in documents():
        told += [f"{image['newName']}:{image['newTag']}" for image in document.get("images", ()) or ()]
    told += [container["image"] for _, container in containers() if "image" in container]
    ours = [image for image in told if image.startswith("tritonvision-")]
    assert len(ours) >= 6 and {image.split(":")[1] for image in ours} == {tritonvision.__version__}


def test_every_variable_that_is_set_is_a_setting():
    set_here = {v.split("=")[0] for _, d in documents() for g in d.get("configMapGenerator", ()) for v in g["literals"]}
    set_here |= {variable["name"] for _, container in containers() for variable in container.get("env", ())}
    assert set_here and set_here <= SETTINGS


def test_probes_ask_routes_that_need_no_key():
    from tritonvision.facade.dialects.native.dialect import NATIVE

    asked = {
        container[probe]["httpGet"]["path"]
        for _, container in containers()
        for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        if probe in container
    }
    assert asked == NATIVE.health_paths


def test_every_alert_has_words_and_asks_metrics_that_there_are(metrics):
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical") and rule["for"]
        assert rule["annotations"].keys() == {"summary", "description"}
        assert set(re.findall(r"\btritonvision_\w+", rule["expr"])) <= metrics, rule["alert"]


def test_what_replicas_are_counted_by_is_a_metric(metrics):
    queries = [str(document) for path, document in documents() if path.name in ("scaling.yaml", "example.yaml")]
    asked = {name for text in queries for name in re.findall(r"\btritonvision_\w+(?=\{|\[)", text)}
    assert asked and asked <= metrics


def test_whatever_selects_pods_selects_those_of_the_deployment():
    base = {
        document["kind"]: document for path, document in documents()
        if path.parent.name == "base" and document.get("metadata", {}).get("name") == "tritonvision"
    }  # fmt: skip
    labels = base["Deployment"]["spec"]["template"]["metadata"]["labels"]
    spec = base["Deployment"]["spec"]
    selectors = [
        spec["selector"]["matchLabels"], base["Service"]["spec"]["selector"],
        base["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        base["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(c["labelSelector"]["matchLabels"] for c in spec["template"]["spec"]["topologySpreadConstraints"]),
    ]  # fmt: skip
    assert all(selector == labels for selector in selectors)


def test_a_pod_has_the_time_to_end_that_its_server_takes():
    from tritonvision.facade import run

    spec = next(d for path, d in documents() if path.name == "deployment.yaml")["spec"]["template"]["spec"]
    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    takes = before + Settings.model_fields["drain"].default + run._LAST_SECONDS + 10  # and the end of tritonserver
    assert takes < spec["terminationGracePeriodSeconds"]
