"""Prometheus, with the configuration of docker/, finds data for every panel of the dashboard.

Of two real servers: one that owns its tritonserver, and an HTTP server in front of that one and of one that is gone.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from podman_runs import free_port

TREE = Path(__file__).parents[2]
FACE = "mediapipe-face-detection"
PANELS = json.loads((TREE / "docs" / "dashboards" / "tritonvision.json").read_text())["panels"]
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "10s").replace("$model", ".*")
    for panel in PANELS
    for target in panel.get("targets", ())
}


@pytest.fixture(scope="module")
def program() -> str:
    return shutil.which("prometheus") or pytest.skip("prometheus is not installed: apt-get install prometheus")


@pytest.fixture(scope="module")
def urls(program, serve_with, tmp_path_factory):
    """The servers' addresses."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        with serve_with() as own:
            (socket,) = folder.glob("*/server/grpc*")
            with serve_with("--triton-url", f"unix:{socket},127.0.0.1:{free_port()}") as front:
                yield own, front


@pytest.fixture(scope="module")
def prometheus(program, urls, tmp_path_factory):
    """A client of a running Prometheus. Of docker/prometheus.yml are changed the addresses and the pauses."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = (TREE / "docker" / "prometheus.yml").read_text()
    for told, here in (
        ('["tritonvision:9001"]', json.dumps([url.removeprefix("http://") for url in urls])),
        ("/etc/prometheus/alerts.yaml", str(TREE / "deploy" / "monitoring" / "alerts.yaml")),
        ("scrape_interval: 5s", "scrape_interval: 500ms"),
    ):
        assert config.count(told) == 1
        config = config.replace(told, here)
    (folder / "prometheus.yml").write_text(config)
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [
                program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    running.terminate()
    running.wait(30)


def answers(prometheus: httpx.Client, query: str) -> list[float]:
    """The values that a query gives now; none before Prometheus listens."""
    try:
        told = prometheus.get("/api/v1/query", params={"query": query})
    except httpx.ConnectError:
        return []
    if told.status_code == 503:  # it is starting
        return []
    assert told.status_code == 200, told.text
    values = [float(series["value"][1]) for series in told.json()["data"]["result"]]
    return [value for value in values if not math.isnan(value)]


def test_every_panel_of_the_dashboard_has_data(prometheus, urls, photo):
    headers = {"content-type": "image/png", "x-wait-for-model": "true", "x-use-cache": "false"}
    empty, end = dict(QUERIES), time.monotonic() + 60
    while empty and time.monotonic() < end:
        for url in urls:
            httpx.post(f"{url}/models/{FACE}", content=photo, headers=headers, timeout=60).raise_for_status()
        time.sleep(0.2)
        empty = {panel: query for panel, query in empty.items() if not answers(prometheus, query)}
    assert empty == {}
    (answered,) = answers(prometheus, 'sum(tritonvision_requests_total{outcome="ok"})')
    assert answered > 0
    assert sorted(answers(prometheus, "tritonvision_endpoint_healthy")) == [0, 1]


def test_prometheus_finds_both_servers_and_takes_every_alert(prometheus, urls):
    told = prometheus.get("/api/v1/rules").json()["data"]["groups"]
    assert len([rule for group in told for rule in group["rules"]]) == 9
    assert answers(prometheus, "up") == [1, 1]
