"""The dashboard asks for what /metrics has: every metric, label and outcome in it is one of a real answer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import exposition
import pytest
from facade_thread import facade
from manifests import MANIFESTS, publish

from tritonvision.facade.observability.metrics import outcome

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "dashboards" / "tritonvision.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
OUTCOMES = {outcome(status) for status in (0, 200, 404, 429, 500, 504)}
_METRIC = re.compile(r"\b((?:tritonvision|nv)_\w+)(?:\{([^}]*)\})?")
_BY = re.compile(r"by \(([^)]*)\)")


@pytest.fixture(scope="module")
def metrics(tmp_path_factory) -> dict[str, set[str]]:
    """The labels of each metric of a server that has answered a request."""
    import httpx

    root = tmp_path_factory.mktemp("repository")
    publish(root, MANIFESTS)
    picture = (Path(__file__).parents[2] / "tritonvision" / "data" / "astronaut.png").read_bytes()
    with facade(root, "key") as (_, url, _loop), httpx.Client(base_url=url) as client:
        headers = {"authorization": "Bearer key", "content-type": "image/png", "x-wait-for-model": "true"}
        assert client.post("/models/yolov8n-640", content=picture, headers=headers).status_code == 200
        text = client.get("/metrics").text
    found: dict[str, set[str]] = {}
    for name, labels, _ in exposition.samples(text):
        found.setdefault(name, set()).update(labels)
    return found


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_and_label_of_the_dashboard_is_one_of_ours(metrics, expression):
    asked = _METRIC.findall(expression)
    assert asked
    labels: set[str] = set()
    for name, selector in asked:
        assert name in metrics, name
        for label, value in re.findall(r'(\w+)\s*=~?\s*"([^"]*)"', selector or ""):
            assert label in metrics[name], (name, label)
            assert label != "outcome" or value in OUTCOMES
        labels |= metrics[name]
    for grouped in _BY.findall(expression):
        assert {label.strip() for label in grouped.split(",")} <= labels


def test_every_metric_of_ours_and_of_triton_that_counts_requests_is_on_the_dashboard(metrics):
    asked = {name for expression in EXPRESSIONS for name, _ in _METRIC.findall(expression)}
    counted = ("requests", "stage", "triton", "endpoint")
    wanted = {
        name for name in metrics
        if name.startswith(("nv_inference_", *(f"tritonvision_{part}" for part in counted)))
    }  # fmt: skip
    left_out = {"tritonvision_stage_seconds_count"}
    assert wanted - asked <= left_out


def test_the_file_is_a_dashboard_that_grafana_takes():
    assert DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["title"] and DASHBOARD["uid"]
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "model"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] and place["x"] + place["w"] <= 24 and place["h"] > 0
        cells = {
            (x, y) for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }  # fmt: skip
        assert not cells & taken, f"'{panel['title']}' lies over another panel"
        taken |= cells
    for panel in PANELS:
        assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)) > 0
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
