"""A model serves once it answered its golden questions; one that answers otherwise does not, and the stage is named."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from scripted_triton import ScriptedTriton

from tritonvision.differences import VALUES
from tritonvision.engine.engine import Engine
from tritonvision.engine.golden_check import GoldenCheck, _blame
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.errors import BrokenModel, DeadlineExceeded, ModelLoading, NotSupported, ServerUnavailable
from tritonvision.golden import ANSWER, FOLDER, Figures, Stage
from tritonvision.publication import MANIFEST
from tritonvision.server import Embedded

FACE = "mediapipe-face-detection"
POST = "post--keypoints"
SHIFTED = '''
import numpy as np
from tritonvision.python_backend import post

class TritonPythonModel(post.TritonPythonModel):
    def answer(self, tensors, wanted):
        found = super().answer(tensors, wanted)
        return found | {"boxes": found["boxes"] + np.float32(3)}
'''


class House:
    """A server over a repository of its own, and which Triton models it was told to load."""

    def __init__(self, settings, root: Path):
        self.root, self.settings = root, settings.model_copy(update={"repository": root})
        self.server = Embedded(self.settings)
        self.loads: list[str] = []
        load = self.server.load
        self.server.load = lambda model, **more: (self.loads.append(model), load(model, **more))[1]
        self.post = (root / POST / "1" / "model.py").read_text()
        self.manifest = (root / FACE / MANIFEST).read_text()

    def publish(self, manifest: str | None = None, post: str | None = None) -> None:
        """The model again, as it was but for what is given."""
        (self.root / POST / "1" / "model.py").write_text(post or self.post)
        fresh = self.root / FACE / "fresh"
        fresh.write_text(manifest or self.manifest)
        fresh.rename(self.root / FACE / MANIFEST)

    def run(self, work):
        async def main():
            engine = Engine(self.settings, self.server)
            await engine.start()
            try:
                return await work(engine)
            finally:
                await engine.unload(FACE)
                await engine.close()

        return asyncio.run(main())


@pytest.fixture(scope="module")
def house(settings, tmp_path_factory) -> Iterator[House]:
    root = tmp_path_factory.mktemp("golden") / "repository"
    shutil.copytree(settings.repository, root)
    house = House(settings, root)
    house.server.start()
    yield house
    house.server.stop()


def test_a_good_model_is_within_every_bar(house):
    house.publish()
    verdict = house.run(lambda engine: engine.verify(FACE))
    assert verdict.passed and verdict.asked and verdict.variant == "onnxruntime-fp32"
    stages = verdict.figures[""]
    assert [stage.stage for stage in stages] == [ANSWER, "pre", "network", "post"]
    assert all(stage.passed and stage.found for stage in stages)
    told = verdict.to_dict()
    assert told["passed"] and [stage["model"] for stage in told["stages"]][0] == FACE
    json.dumps(told, allow_nan=False)


def test_each_process_is_asked_before_the_first_caller_comes(house):
    house.publish()

    async def work(engine: Engine):
        before = {one.model: one.requests for one in await engine.statistics()}
        await engine.load(FACE)
        await asyncio.sleep(0.2)  # Triton counts a request a moment after it has answered it
        return {one.model: one.requests - before.get(one.model, 0) for one in await engine.statistics()}

    asked = house.run(work)
    assert asked[f"net--{FACE}"] == asked[FACE] == 2


def test_a_right_answer_that_comes_after_callers_went_is_a_right_one(house, monkeypatch):
    """As of a large network on busy cores: who asks is told to come again, and the model is not refused."""
    house.publish()
    monkeypatch.setattr(house, "settings", house.settings.model_copy(update={"load_timeout": 0.001}))

    async def work(engine: Engine):
        sent_away = 0
        while True:
            try:
                await engine.load(FACE)
                break
            except ModelLoading:
                sent_away += 1
                await asyncio.sleep(0.05)
        assert sent_away and not engine.memory().refused
        assert (await engine.verify(FACE)).passed

    house.run(work)


def test_a_model_that_answers_otherwise_is_refused_until_it_is_mended(house, photo):
    house.publish(post=SHIFTED)

    async def work(engine: Engine):
        for _ in range(2):  # the second time without another load
            with pytest.raises(BrokenModel, match=f"'{FACE}' does not answer as it did .* its post differs"):
                await engine.infer(FACE, [photo], {})
        assert house.loads.count(FACE) == 1
        assert engine.loaded() == [] and house.server.instances(POST) == 0
        assert engine.memory().refused == {FACE: "What differs is its post: boxes 3 > 0.003."}
        await not_ready(engine, "What differs is its post: boxes 3 > 0.003.")
        house.publish()
        assert await engine.ready(engine.published.resolve(FACE))  # nobody has asked it yet
        _, [(_, detections)] = await engine.infer(FACE, [photo], {})
        assert len(detections) == 1 and engine.memory().refused == {}

    house.publish(post=SHIFTED)
    house.loads.clear()
    house.run(work)


async def not_ready(engine: Engine, why: str) -> None:
    """Every way to ask whether the model is ready says why it is not."""
    manifest = engine.published.resolve(FACE)
    assert not await engine.ready(manifest) and await engine.ready()
    assert engine.why_not_ready(manifest) == await engine.why_model_not_ready(manifest) == why


def test_a_model_whose_files_have_changed_is_not_ready_until_they_are_back(house, photo):
    house.publish()
    graph = house.settings.repository / f"net--{FACE}" / "1" / "model.onnx"
    whole = graph.read_bytes()

    async def work(engine: Engine):
        assert await engine.ready(engine.published.resolve(FACE))
        graph.unlink()
        graph.write_bytes(whole[:-1] + b"?")
        with pytest.raises(BrokenModel):
            await engine.infer(FACE, [photo], {})
        why = f"{graph.relative_to(house.settings.repository)} has changed."
        await not_ready(engine, f"The files of {FACE!r} are not those that were published: {why}")
        assert engine.memory().refused.keys() == {FACE}
        graph.unlink()
        graph.write_bytes(whole)
        await engine.infer(FACE, [photo], {})
        assert await engine.ready(engine.published.resolve(FACE)) and not engine.memory().refused

    house.run(work)


def test_what_is_published_over_a_good_model_is_asked_too(house, photo):
    house.publish()

    async def work(engine: Engine):
        await engine.infer(FACE, [photo], {})
        house.publish(manifest=house.manifest.replace('"face"', '"visage"'))
        with pytest.raises(BrokenModel, match="its labels differ"):
            await engine.infer(FACE, [photo], {}, wait=False)
        assert engine.loaded() == []

    house.run(work)


def test_what_was_published_before_there_were_golden_answers_is_served(house, photo):
    manifest = json.loads(house.manifest)
    manifest["files"] = {name: digest for name, digest in manifest["files"].items() if f"/{FOLDER}/" not in name}
    house.publish(manifest=json.dumps(manifest), post=SHIFTED)

    async def work(engine: Engine):
        await engine.infer(FACE, [photo], {})
        return await engine.verify(FACE)

    verdict = house.run(work)
    assert verdict.passed and not verdict.asked and not verdict.figures


def test_somebody_elses_models_are_not_verified(house):
    settings = house.settings.model_copy(update={"triton_url": "127.0.0.1:1"})

    async def work():
        engine = Engine(settings)
        await engine.start()
        try:
            with pytest.raises(NotSupported):
                await engine.verify(FACE)
        finally:
            await engine.close()

    began = time.monotonic()
    asyncio.run(work())
    assert time.monotonic() - began < 10


def figures(stage: str, difference: float, bar: float = 1.0) -> Figures:
    about = Stage(stage, stage, VALUES, {"scores": bar}, "")
    return Figures(about.name, about.model, {"scores": difference}, about.bars)


@pytest.mark.parametrize(
    ("differences", "exact", "blamed"),
    [
        ({ANSWER: 0, "pre": 0, "network": 0, "post": 0}, True, ""),
        ({ANSWER: 0}, True, ""),
        ({ANSWER: 5, "pre": 9, "network": 9, "post": 0}, True, "pre"),
        ({ANSWER: 5, "pre": 0.5, "network": 9, "post": 0}, True, "network"),
        ({ANSWER: 0, "pre": 0, "network": 0, "post": 2}, True, "post"),
        ({ANSWER: 5, "pre": 0, "network": 0, "post": 0}, True, ANSWER),
        ({ANSWER: 5, "pre": 0.5, "network": 0, "post": 0}, True, ""),  # another processor rounds a pixel
        ({ANSWER: float("nan"), "network": float("nan")}, True, "network"),
        ({ANSWER: 5}, True, ANSWER),
        ({ANSWER: 0, "pre": 0, "network": 9, "post": 0}, False, ""),  # a reduced precision
        ({ANSWER: 5, "pre": 0, "network": 9, "post": 0}, False, "network"),
        ({ANSWER: 5, "pre": 9, "network": 9, "post": 0}, False, "pre"),
    ],
)
def test_the_first_stage_past_its_own_bar_is_blamed(differences, exact, blamed):
    assert _blame(tuple(figures(stage, value) for stage, value in differences.items()), exact)[0] == blamed


@pytest.mark.parametrize("lost", [True, False])
def test_a_model_that_begins_to_write_and_stops_is_not_waited_for_for_ever(tmp_path, lost):
    """Its process is lost, which Triton does not tell in a stream, or it hangs."""
    stage = SimpleNamespace(name=ANSWER, decoupled=True)
    questions = SimpleNamespace(load=lambda stage: ({}, {}))

    async def main():
        async with ScriptedTriton("writer") as triton, AsyncTritonClient(triton.address) as client:
            triton.held.clear()  # after the first piece
            with ThreadPoolExecutor(1) as threads:
                deadline = 30.0 if lost else 0.1
                check = GoldenCheck(client, tmp_path, deadline, threads, lambda _: 1, lambda _: lambda: lost, None)
                if lost:
                    with pytest.raises(ServerUnavailable):
                        await check._ask_stage(questions, stage, "writer", True)
                else:
                    figures = await check._ask_stage(questions, stage, "writer", True)
                    assert not figures.passed and figures.failure == DeadlineExceeded.sentence
            triton.held.set()

    asyncio.run(main())
