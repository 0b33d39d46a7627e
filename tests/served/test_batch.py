"""``tritonvision batch`` with a real tritonserver: the answers are the model's, one a picture, whoever dies."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyarrow import parquet

from tritonvision.batch import local, parts
from tritonvision.batch.answers import from_json
from tritonvision.batch.folder import Folder
from tritonvision.batch.job import Job, begin
from tritonvision.batch.worker import Server, connected
from tritonvision.engine.facts import Facts
from tritonvision.publication import Repository
from tritonvision.server import stubs
from tritonvision.settings import Settings
from tritonvision.tasks import TASKS, resolve

FACE = "mediapipe-face-detection"
COUNT = 200


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, photo) -> Path:
    """Many names of one photograph, and one of a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "000.png").write_bytes(photo)
    for number in range(1, COUNT):
        os.link(folder / "000.png", folder / f"{number:03}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    return folder


def rows_of(out: Path) -> list[dict]:
    return parquet.read_table(out).to_pylist()


def assert_one_answer_each(pictures: Path, out: Path):
    rows = rows_of(out)
    assert sorted(row["picture"] for row in rows) == sorted(str(path) for path in pictures.iterdir())
    assert {Path(row["picture"]).name: row["status"] for row in rows if row["status"] != "ok"} == {
        "broken.jpg": "invalid_picture"
    }


def command(pictures: Path, out: Path, repository: Path, *more: str) -> list[str]:
    line = [sys.executable, "-m", "tritonvision", "batch", str(pictures), "--model", FACE, "--out", str(out)]
    return [*line, "--repository", str(repository), "--shard", "8", "--at-once", "4", *more]


def wait_for(what, seconds=60.0):
    end = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.005)
    assert found
    return found


def test_a_command_that_is_killed_goes_on_and_no_picture_has_two_answers(pictures, served_repository, tmp_path):
    out = tmp_path / "out"
    line = command(pictures, out, served_repository)
    driver = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(out.glob("part-*"))) >= 3)
    driver.kill()
    driver.wait()
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 3 <= len(before) < -(-(COUNT + 1) // 8), "it was killed on its way"
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, f"one picture is none; {done.stderr}"
    summary = json.loads(done.stdout)
    assert summary["complete"] and (summary["pictures"], summary["answered"]) == (COUNT + 1, COUNT)
    assert summary["now"] == COUNT + 1 - 8 * len(before), "only what had no file was asked"
    assert_one_answer_each(pictures, out)
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    again = subprocess.run([*line, "--json"], capture_output=True, text=True, check=False)
    assert json.loads(again.stdout)["now"] == 0


def test_a_process_of_the_server_that_is_killed_costs_no_answer_and_answers_are_the_models(
    pictures, served_repository, photo, tmp_path
):
    settings = Settings(repository=served_repository, log_dir=tmp_path)
    facts = Facts.of(Repository(served_repository).resolve(FACE))
    asked = resolve(TASKS[facts.task].parameters, {})
    job = Job(FACE, facts.fingerprint, facts.task, asked, "", str(pictures), None, 8)
    folder = Folder(str(tmp_path / "out"))
    killed: list[str] = []
    before = tritonservers()

    def kill_one(done: parts.Done) -> None:
        if done.shard in (4, 8):
            (server,) = tritonservers() - before
            stub = next(iter(stubs.of_server(server).values()))
            killed.append(stub.model)
            os.kill(stub.pid, signal.SIGKILL)

    async def main():
        plan = begin(folder, job)
        await local.run(job, folder, plan, range(len(plan)), Server(settings), kill_one, print)
        async with connected(Server(settings), print) as connection:
            return await connection.infer(facts, [photo], asked)

    (expected,) = asyncio.run(main())
    assert len(killed) == 2
    assert_one_answer_each(pictures, tmp_path / "out")
    points, faces = expected
    for row in rows_of(tmp_path / "out")[:COUNT]:
        found_points, found = from_json(row["answer"])
        assert (found.xyxy == faces.xyxy).all() and (found.confidence == faces.confidence).all()
        assert (found_points.xy == points.xy).all()
        assert row["model"] == FACE and row["model_hash"] == facts.fingerprint


def tritonservers() -> set[int]:
    """Those of this process; other tests may have one."""
    return {pid for pid in children(os.getpid()) if comm(pid) == "tritonserver"}


def children(pid: int) -> list[int]:
    """Everything below a process."""
    found, todo = [], [pid]
    while todo:
        of = todo.pop()
        for task in Path(f"/proc/{of}/task").glob("*/children"):
            below = [int(child) for child in task.read_text().split()]
            found += below
            todo += below
    return found


def comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_running_server_is_asked_with_the_same_answers(pictures, server_url, served_repository, tmp_path, photo):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(pictures / "000.png", few / "a.png")
    answers = []
    for name, more in (("own", ()), ("asked", ("--url", server_url))):
        line = command(few, tmp_path / name, served_repository, *more)
        assert subprocess.run(line, capture_output=True, check=False).returncode == 0
        (row,) = rows_of(tmp_path / name)
        answers.append(from_json(row["answer"]))
        assert row["model_hash"] == Repository(served_repository).resolve(FACE).fingerprint
    (_, own), (_, asked) = answers
    assert own.confidence == pytest.approx(asked.confidence) and own.xyxy == pytest.approx(asked.xyxy, abs=0.01)
