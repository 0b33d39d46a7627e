"""Models that share steps, while some leave and others come, on the real tritonserver."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tritonvision.engine.engine import Engine
from tritonvision.server import Embedded
from tritonvision.settings import Settings

DETECTOR, SEGMENTER, CLASSIFIER = "yolov8n-640", "yolov8n-seg-640", "resnet18"
SHARED = "pre--letterbox-640"


@pytest.fixture
def settings(served_repository: Path, tmp_path: Path) -> Settings:
    return Settings(repository=served_repository, log_dir=tmp_path, max_loaded=2, load_timeout=90, fusion=False)


def test_unloading_a_model_keeps_a_step_that_a_loading_model_shares(settings, photo):
    server = Embedded(settings)
    server.start()

    async def work(engine: Engine):
        await engine.load(DETECTOR)
        await asyncio.gather(engine.load(SEGMENTER), engine.load(CLASSIFIER))  # the detector leaves
        assert {manifest.id for manifest in engine.loaded()} == {SEGMENTER, CLASSIFIER}
        assert server.instances(SHARED) == 2
        victims = [stub for stub in server.processes() if stub.model == SHARED]
        lost = server.loses(SHARED)
        assert len(victims) == 2
        for victim in victims:
            os.kill(victim.pid, signal.SIGKILL)
        _, results = await engine.infer(SEGMENTER, [photo], {"confidence": 0.9})
        assert len(results) == 1 and lost()
        await engine.unload(SEGMENTER)
        assert server.instances(SHARED) == 0

    async def run():
        engine = Engine(settings, server)
        await engine.start()
        try:
            await work(engine)
        finally:
            await engine.close()

    try:
        asyncio.run(run())
    finally:
        server.stop()
