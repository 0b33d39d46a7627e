"""A batch on a Ray cluster of two nodes: a worker, a node, the driver are killed, and every picture has one answer."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from pyarrow import parquet
from ray_processes import processes, started, wait_for

COUNT = 400
WORKER = "ray::_Actor"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photo) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "000.png").write_bytes(photo)
    for number in range(1, COUNT):
        os.link(folder / "000.png", folder / f"{number:03}.png")
    return folder


def parts(out: Path) -> int:
    return len(list(out.glob("part-*")))


def assert_one_answer_each(pictures: Path, out: Path, summary: dict):
    rows = parquet.read_table(out).to_pylist()
    assert sorted(row["picture"] for row in rows) == sorted(str(path) for path in pictures.iterdir())
    assert {row["status"] for row in rows} == {"ok"} and len({row["answer"] for row in rows}) == 1
    assert summary["complete"] and summary["answered"] == COUNT


def finish(driver) -> dict:
    out, err = driver.communicate(timeout=240)
    assert driver.returncode == 0, err
    return json.loads(out)


def test_a_worker_and_then_a_node_are_killed(cluster, command, pictures, tmp_path):
    out = tmp_path / "out"
    driver = started(command(pictures, out, cluster.address))
    wait_for(lambda: parts(out) >= 3)
    workers = wait_for(lambda: processes(WORKER) if len(processes(WORKER)) == 2 else None)
    os.kill(workers[0], signal.SIGKILL)
    seen = parts(out)
    wait_for(lambda: parts(out) >= seen + 5)
    second = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    cluster.remove_node(second, allow_graceful=False)
    assert_one_answer_each(pictures, out, finish(driver))


def test_the_driver_is_killed_and_another_one_goes_on(cluster, command, pictures, tmp_path):
    out = tmp_path / "out"
    driver = started(command(pictures, out, cluster.address))
    wait_for(lambda: parts(out) >= 5)
    driver.kill()
    driver.communicate()
    wait_for(lambda: not processes(WORKER))  # Ray ends the workers of a driver that is gone
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 5 <= len(kept) < COUNT // 8, "it was killed on its way"
    summary = finish(started(command(pictures, out, cluster.address)))
    assert summary["now"] == COUNT - 8 * len(kept)
    assert_one_answer_each(pictures, out, summary)
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept


def test_workers_with_another_model_are_refused_in_a_sentence(cluster, command, pictures, tmp_path, served_repository):
    line = command(pictures, tmp_path / "out", cluster.address)
    driver = started([line[0], "-c", ANOTHER_MODEL, *line[2:]])
    _, err = driver.communicate(timeout=120)
    assert driver.returncode == 3 and "another one there" in err and "Traceback" not in err


# the driver's own view of the model differs from what the workers find
ANOTHER_MODEL = """
from tritonvision.publication import Manifest
import sys
Manifest.fingerprint = property(lambda self: "0123")
sys.argv = sys.argv[1:]
from tritonvision.cli import main
main()
"""
