"""Plans are built beside the server, once, with their progress; a build that fails is told and not tried again."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace

import pytest

from tritonvision import gpus, machine, plans
from tritonvision.engine.plans import PlanBuilds
from tritonvision.errors import SetupError
from tritonvision.publication import Manifest
from tritonvision.variants import Variant

H200 = gpus.Gpu("NVIDIA H200", "9.0", "", "13.0")
VARIANT = Variant("tensorrt", "fp16", ("",), max_batch=8)
MANIFEST = Manifest(
    id="m", family="f", task="classification", head="classes", weights="random", source="s", sha256="0", license="l",
    precision="fp32", labels=(), input_size=None, steps=("net--m",), variants=(VARIANT,), serving=VARIANT.name,
)  # fmt: skip
# Writes what it is called with, tells its progress, waits for a file, and ends as that file says.
BUILD = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[1])
with open(folder / "called", "a") as called: called.write(" ".join(sys.argv[2:]) + chr(10))
print("a line of somebody else", flush=True)
print("#" * 200_000, flush=True)  # a bar that is drawn over itself
print(json.dumps({"phase": "Building engine", "done": 0.25}), flush=True)
while not (folder / "go").exists(): time.sleep(0.01)
status = int((folder / "go").read_text())
if status: print("Error: The GPU has no memory left.", file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda: H200)


@pytest.fixture
def builds(tmp_path):
    return PlanBuilds(tmp_path, lambda *arguments: [sys.executable, "-c", BUILD, str(tmp_path), *arguments])


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def end(tmp_path, status):
    (tmp_path / "new").write_text(str(status))
    (tmp_path / "new").rename(tmp_path / "go")


def test_a_missing_plan_is_built_once_with_its_progress(builds, tmp_path):
    async def main():
        for _ in range(3):
            with pytest.raises(SetupError, match="No plan has been built yet. One for this machine is being built"):
                builds.require(MANIFEST, VARIANT)
        await until(lambda: builds.builds["m"].done)
        assert (builds.builds["m"].state, builds.builds["m"].phase) == ("building", "Building engine")
        end(tmp_path, 0)
        await until(lambda: builds.builds["m"].state == "built")
        await builds.close()

    asyncio.run(main())
    called = (tmp_path / "called").read_text().splitlines()
    assert called == [f"plan build m --variant {VARIANT.name} --repository {tmp_path} --progress"]


def test_a_build_that_fails_is_told_in_its_words_and_tried_again_only_for_another_publication(builds, tmp_path):
    async def main():
        end(tmp_path, 1)
        with pytest.raises(SetupError):
            builds.require(MANIFEST, VARIANT)
        await until(lambda: builds.builds["m"].state == "failed")
        with pytest.raises(SetupError, match="this machine failed: The GPU has no memory left."):
            builds.require(MANIFEST, VARIANT)
        assert len((tmp_path / "called").read_text().splitlines()) == 1
        with pytest.raises(SetupError, match="is being built"):
            builds.require(replace(MANIFEST), VARIANT)
        await until(lambda: len((tmp_path / "called").read_text().splitlines()) == 2)
        await builds.close()

    asyncio.run(main())


def test_plans_of_this_machine_serve_and_those_of_another_are_built_again(builds, tmp_path):
    (place,) = plans.places(MANIFEST, VARIANT.name)
    plan = tmp_path / place
    plan.parent.mkdir(parents=True)
    plan.write_bytes(b"a plan")
    key = plans.key_on(H200, weights="", family_version="", tensorrt="", precision="fp16", profile="{}")
    plans.write_key(plan, key, 1.0)
    builds.require(MANIFEST, VARIANT)
    assert not builds.builds
    about = json.loads(plans.key_file(plan).read_text())
    about["key"]["gpu"] = "NVIDIA L4"
    plans.key_file(plan).write_text(json.dumps(about))

    async def main():
        with pytest.raises(SetupError, match="The plan was built for another GPU. One for this machine"):
            builds.require(MANIFEST, VARIANT)
        await builds.close()

    asyncio.run(main())


def test_closing_ends_the_build_that_runs(builds, tmp_path):
    async def main():
        with pytest.raises(SetupError):
            builds.require(MANIFEST, VARIANT)
        await until(lambda: (tmp_path / "called").exists())
        await builds.close()
        assert builds.builds["m"].state == "building"

    asyncio.run(main())


def test_without_a_gpu_nothing_is_begun(builds, monkeypatch):
    monkeypatch.setattr(machine, "gpu", lambda: None)
    with pytest.raises(SetupError, match="No NVIDIA GPU"):
        builds.require(MANIFEST, VARIANT)
    assert not builds.builds


def test_a_build_whose_process_cannot_be_started_is_told_as_one_that_failed(tmp_path):
    async def main():
        builds = PlanBuilds(tmp_path, lambda *_: [str(tmp_path / "nothing")])
        with pytest.raises(SetupError):
            builds.require(MANIFEST, VARIANT)
        await until(lambda: builds.builds["m"].state == "failed")
        assert builds.builds["m"].why == "No process can be started for it: No such file or directory."
        await builds.close()

    asyncio.run(main())
