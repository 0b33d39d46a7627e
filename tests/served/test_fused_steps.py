"""Models whose steps run in the processes of their network answer as those whose steps have processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from own_engine import with_engine

from tritonvision.engine.engine import Engine
from tritonvision.server import Embedded
from tritonvision.settings import Settings

DETECTOR, SEGMENTER, CLASSIFIER, TOWERS = "yolov8n-640", "yolov8n-seg-640", "resnet18", "clip/RN50"
QUESTIONS = {
    DETECTOR: {"confidence": 0.01, "max_detections": 30},
    SEGMENTER: {"confidence": 0.01, "max_detections": 5},
    CLASSIFIER: {"confidence": 0.0},
}


def settings_of(repository: Path, logs: Path, fusion: bool) -> Settings:
    return Settings(repository=repository, log_dir=logs, load_timeout=120, fusion=fusion)


@pytest.fixture(scope="module")
def servers(served_repository, tmp_path_factory):
    """Settings and a running tritonserver with fused steps, and with steps apart."""
    made = {}
    for fusion in (True, False):
        settings = settings_of(served_repository, tmp_path_factory.mktemp("log"), fusion)
        made[fusion] = settings, Embedded(settings)
        made[fusion][1].start()
    yield made
    for _, server in made.values():
        server.stop()


def arrays(result) -> dict[str, np.ndarray]:
    if isinstance(result, np.ndarray):
        return {"": result}
    return {name: value for name, value in vars(result).items() if isinstance(value, np.ndarray)}


def test_every_answer_is_the_same_to_the_last_bit(servers, photo):
    async def work(engine: Engine):
        found = {}
        for model, parameters in QUESTIONS.items():
            _, found[model] = await engine.infer(model, [photo, photo], parameters)
        _, found["features"] = await engine.ask(CLASSIFIER, [{"image": photo}], {}, role="features")
        _, found["image"] = await engine.infer(TOWERS, [photo], {})
        _, found["text"] = await engine.ask(TOWERS, [{"text": b"a dog"}, {"text": b"an astronaut"}], {}, role="text")
        return found

    fused, apart = (with_engine(*servers[fusion], work) for fusion in (True, False))
    assert fused.keys() == apart.keys()
    for name, results in fused.items():
        assert len(results) == len(apart[name]) > 0
        for one, other in zip(results, apart[name], strict=True):
            wanted = arrays(other)
            assert wanted and arrays(one).keys() == wanted.keys()
            for field, value in arrays(one).items():
                np.testing.assert_array_equal(value, wanted[field], err_msg=f"{name} {field}")


def of_model(server: Embedded, model: str) -> set[str]:
    """Triton models that have processes and belong to ``model``, or to several."""
    return {stub.model for stub in server.processes() if not stub.model.startswith("net--") or model in stub.model}


def test_only_the_network_has_processes_and_a_lost_one_is_replaced_without_a_failed_request(servers, photo):
    settings, server = servers[True]

    async def work(engine: Engine):
        manifest = await engine.load(CLASSIFIER)
        assert of_model(server, CLASSIFIER) == {f"net--{CLASSIFIER}"}
        _, before = await engine.infer(CLASSIFIER, [photo], {})
        victims = [stub for stub in server.processes() if stub.model == f"net--{CLASSIFIER}"]
        asked = [asyncio.create_task(engine.infer(CLASSIFIER, [photo], {})) for _ in range(8)]
        await asyncio.sleep(0.05)
        os.kill(victims[0].pid, signal.SIGKILL)
        for _, results in await asyncio.gather(*asked):
            np.testing.assert_array_equal(results[0].confidence, before[0].confidence)
        await asyncio.to_thread(server.wait_healed, 30)
        assert await engine.why_model_not_ready(manifest) == ""

    with_engine(settings, server, work)


def test_a_second_entry_point_over_the_same_network_is_asked_once(servers):
    settings, server = servers[True]

    async def work(engine: Engine):
        await engine.unload(CLASSIFIER)
        await engine.load(CLASSIFIER)
        await asyncio.sleep(0.2)  # Triton counts a request a moment after it has answered it
        return {one.model: one.requests for one in await engine.statistics()}

    asked = with_engine(settings, server, work)
    assert {name: asked[name] for name in (f"net--{CLASSIFIER}", CLASSIFIER, f"{CLASSIFIER}--features")} == {
        f"net--{CLASSIFIER}": 3, CLASSIFIER: 2, f"{CLASSIFIER}--features": 1,
    }  # fmt: skip


def test_verifying_asks_every_step_alone_and_its_processes_leave_with_the_model(servers):
    settings, server = servers[True]

    async def work(engine: Engine):
        verdict = await engine.verify(CLASSIFIER)
        stages = [one.stage for one in verdict.figures[""]]
        assert verdict.passed and stages == ["answer", "pre", "network", "post"]
        steps = {step for step in engine.repository.get(CLASSIFIER).steps if step.startswith(("pre--", "post--"))}
        assert steps and all(server.instances(step) == 2 for step in steps)
        await engine.unload(CLASSIFIER)
        assert not any(server.instances(step) for step in (*steps, CLASSIFIER, f"net--{CLASSIFIER}"))

    with_engine(settings, server, work)
