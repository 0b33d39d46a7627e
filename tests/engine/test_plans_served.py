"""A model whose TensorRT plan is of another GPU answers from ONNX Runtime, on the real server, while one is built."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import replace

import pytest

from tritonvision import gpus, machine
from tritonvision.engine.engine import Engine
from tritonvision.engine.plans import PlanBuilds
from tritonvision.facade.observability.metrics import PlanProgress
from tritonvision.publication import MANIFEST, Repository
from tritonvision.server import Embedded
from tritonvision.variants import Variant

FACE = "mediapipe-face-detection"
VARIANT = Variant("tensorrt", "fp16", ("",), max_batch=8)
BUILD = """
import pathlib, sys, time
print('{"phase": "Building engine", "done": 0.5}', flush=True)
while not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.01)
sys.exit("Error: The GPU has no memory left.")
"""


@pytest.fixture
def own(settings, tmp_path):
    """Settings of a repository of its own, in which a TensorRT variant of the face model is to serve."""
    root = tmp_path / "models"
    shutil.copytree(settings.repository, root)
    manifest = Repository(root).get(FACE)
    told = replace(manifest, variants=(VARIANT,), serving=VARIANT.name)
    (root / FACE / MANIFEST).write_text(told.to_json())
    return settings.model_copy(update={"repository": root})


def test_the_model_answers_while_its_plan_is_built_and_when_that_fails(own, photo, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "why_not", lambda engine, precision: "")
    monkeypatch.setattr(machine, "gpu", lambda: gpus.Gpu("NVIDIA H200", "9.0", "", "13.0"))
    server = Embedded(own)
    server.start()

    async def work():
        engine = Engine(own, server)
        await engine.start()
        builds = PlanBuilds(own.repository, lambda *_: [sys.executable, "-c", BUILD, str(tmp_path / "end")])
        engine._loader.plans = builds
        try:
            await engine.infer(FACE, [photo], {})
            served = engine.memory().served[FACE]
            assert served.variant == "onnxruntime-fp32"
            assert served.why_not.startswith("No plan has been built yet. One for this machine is being built")
            await until(lambda: engine.memory().plan_builds[FACE].done == 0.5)
            (family,) = PlanProgress(engine.memory).collect()
            labels = {"model": FACE, "variant": VARIANT.name, "state": "building"}
            assert [(sample.labels, sample.value) for sample in family.samples] == [(labels, 0.5)]
            (tmp_path / "end").touch()
            await until(lambda: engine.memory().plan_builds[FACE].state == "failed")
            assert engine.memory().plan_builds[FACE].why == "The GPU has no memory left."
            _, [(points, _)] = await engine.infer(FACE, [photo], {})
            assert points.xy.shape == (1, 6, 2)
        finally:
            await engine.close()

    try:
        asyncio.run(work())
    finally:
        server.stop()


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)
