"""A publication that is killed or finds the disk full at any step leaves the old version, whole; or the new one is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fault_points import ID, contents, manifest, put

from tritonvision import moves
from tritonvision.errors import SetupError
from tritonvision.exporters import publish
from tritonvision.publication import Repository

PROGRAM = Path(__file__).parents[1] / "support" / "fault_points.py"


def points(folder: Path, how: str, what: str) -> list[dict]:
    """What was left behind at each point."""
    done = subprocess.run(
        [sys.executable, "-P", str(PROGRAM), str(folder), how, what], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("what, fewest", [
    ("first", 25), ("again", 35), pytest.param("again-by-a-third-name", 40, marks=pytest.mark.slow), ("remove", 10),
])  # fmt: skip
def test_killed_at_any_step_the_repository_is_whole_and_the_old_version_or_the_new_one_is_there(
    tmp_path, what, fewest
):
    found = points(tmp_path, "kill", what)
    assert [point for point in found if not point["whole"] or not point["swept"]] == []
    was, becomes = {"first": ("none", "new"), "remove": ("old", "none")}.get(what, ("old", "new"))
    states = [point["state"] for point in found]
    turn = states.index(becomes)
    assert set(states[:turn]) == {was} and set(states[turn:]) == {becomes}, "it changes once and for good"
    assert turn > fewest and {point["status"] for point in found[:-1]} == {-9} and found[-1]["status"] == 0


@pytest.mark.parametrize("what", [
    pytest.param("first", marks=pytest.mark.slow), "again", pytest.param("remove", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_disk_that_is_full_from_any_step_on_leaves_the_old_version_and_one_sentence(tmp_path, what):
    found = points(tmp_path, "full", what)
    assert [point for point in found if not point["whole"]] == []
    assert {point["status"] for point in found} == {0, 3}, "refused with a sentence, or done before the disk was full"
    becomes = "none" if what == "remove" else "new"
    assert all((point["status"] == 0) == (point["state"] == becomes) for point in found)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, of 200 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("size, sentence", [(300_000, "is full"), (150_000, "is full|could not be written")])
def test_a_disk_that_is_really_full_leaves_the_old_version_and_lets_a_smaller_one_in(small_disk, size, sentence):
    put(small_disk, "old")
    before = contents(small_disk)
    with pytest.raises(SetupError, match=sentence) as caught, publish.staging(small_disk) as folder:
        graph = folder / "model.onnx"
        graph.write_bytes(b"x" * size)
        publish.publish(small_disk, folder, manifest("large"), (), {"": graph}, {}, {"q": b"x" * 100_000})
    assert "as it was" in caught.value.message and caught.value.hint
    assert contents(small_disk) == before and not (small_disk / moves.STAGING).exists()
    put(small_disk, "new")
    assert Repository(small_disk).get(ID).notes == ("new",)
