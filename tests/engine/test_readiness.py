"""Readiness of one model over a real tritonserver, and a server whose repository was left half changed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fault_points import contents
from own_engine import with_engine

from tritonvision.engine.engine import Engine
from tritonvision.publication import Repository
from tritonvision.server import Embedded

FACE, OTHER = "mediapipe-face-detection", "colours"
TREE = Path(__file__).parents[2]
# Publishes the model again with another network, and dies between two of the renames.
VICTIM = """
import os, shutil, signal, sys
from dataclasses import replace
from pathlib import Path
from tritonvision import moves
from tritonvision.exporters import publish
from tritonvision.publication import Repository, locked

root, model = Path(sys.argv[1]), sys.argv[2]
manifest = Repository(root).get(model)
renamed = []
def hook(event, arguments):
    if event == "ctypes.dlsym" and arguments[1] == "renameat2":
        renamed.append(arguments)
        if len(renamed) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with publish.staging(root) as folder:
    names = [f"net--{model}", "pre--square-128", model]
    for name in names:
        shutil.copytree(root / name, folder / name)
    (folder / names[0] / "1" / "model.onnx").write_bytes(b"another network")
    (folder / names[1] / "config.pbtxt").write_text("another step")
    (folder / model / "manifest.json").write_text(replace(manifest, notes=("another",)).to_json())
    with locked(root):
        publish.put_in_place([(folder / name, root / name) for name in names], folder)
"""


@pytest.fixture(scope="module")
def house(repository, settings, tmp_path_factory):
    """Settings and a server over a repository of two models that share nothing."""
    root = Path(shutil.copytree(repository, tmp_path_factory.mktemp("two") / "models"))
    shutil.copytree(TREE / "tests" / "data" / "published_0_1", root, dirs_exist_ok=True)
    (root / OTHER / "1").mkdir(exist_ok=True)  # git keeps no empty folder
    own = settings.model_copy(update={"repository": root})
    server = Embedded(own)
    server.start()
    yield own, server
    server.stop()


async def until(engine: Engine, model: str, wanted) -> str:
    """The first reason that ``wanted`` accepts."""
    manifest = engine.repository.get(model)
    async with asyncio.timeout(20):
        while not await wanted(why := await engine.why_model_not_ready(manifest)):
            await asyncio.sleep(0.01)
    return why


def test_a_model_is_ready_once_it_is_loaded_and_not_while_a_process_of_it_is_replaced(house, photo):
    settings, server = house

    async def work(engine: Engine) -> None:
        face, other = engine.repository.get(FACE), engine.repository.get(OTHER)
        assert await engine.why_model_not_ready(face) == f"'{FACE}' is not loaded; its first request loads it."
        load = asyncio.create_task(engine.load(FACE))

        async def begun(why: str) -> bool:
            return "loaded;" not in why

        assert await until(engine, FACE, begun) == f"'{FACE}' is being loaded."
        await load
        await engine.load(OTHER)
        assert await engine.why_model_not_ready(face) == await engine.why_model_not_ready(other) == ""
        victim = next(stub for stub in server.processes() if stub.model == f"net--{FACE}")
        os.kill(victim.pid, signal.SIGKILL)
        others = []

        def watched(wanted: bool):
            async def look(why: str) -> bool:
                others.append(await engine.why_model_not_ready(other))
                return bool(why) is wanted

            return look

        assert await until(engine, FACE, watched(True)) == f"A process of 'net--{FACE}' is being replaced."
        await until(engine, FACE, watched(False))
        assert set(others) == {""}, "another model is not touched"
        _, [(_, found)] = await engine.infer(FACE, [photo], {})
        assert len(found) == 1
        await engine.unload(FACE)
        assert await engine.why_model_not_ready(face) == f"'{FACE}' is not loaded; its first request loads it."

    with_engine(settings, server, work)


def test_a_publication_that_was_killed_half_way_leaves_the_old_version_to_be_loaded(house, photo):
    settings, server = house
    root = settings.repository
    before, manifest = contents(root), Repository(root).get(FACE)
    done = subprocess.run([sys.executable, "-c", VICTIM, str(root), FACE], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (root / f"net--{FACE}" / "1" / "model.onnx").read_bytes() == b"another network", "one rename was done"

    async def work(engine: Engine) -> None:
        asked, [(_, found)] = await engine.infer(FACE, [photo], {})
        assert asked == manifest and found.confidence[0] == pytest.approx(0.9217, abs=1e-4)

    with_engine(settings, server, work)
    assert contents(root) == before
