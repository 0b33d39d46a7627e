"""The engine on a real tritonserver and the memory engine, which most tests of the facade use, behave alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tritonvision import errors
from tritonvision.engine.engine import Engine
from tritonvision.publication import MANIFEST
from tritonvision.results import Detections, KeyPoints

FACE = "mediapipe-face-detection"
HALVES = [[128.0, 256.0, 256.0, 512.0], [384.0, 256.0, 256.0, 512.0]]


@pytest.fixture(params=["tritonserver", "memory"])
def ask(request: pytest.FixtureRequest, settings, tmp_path: Path, memory_engine):
    """``ask(work)`` runs ``work(engine, manifest)`` with an engine without loaded models."""
    if request.param == "memory":
        folder = tmp_path / FACE
        folder.mkdir()
        (folder / MANIFEST).write_text((settings.repository / FACE / MANIFEST).read_text())

    async def run(work: Callable[..., Awaitable]):
        if request.param == "memory":
            engine = memory_engine(tmp_path)
            return await work(engine, engine.repository.resolve(FACE))
        engine = Engine(settings.model_copy(update={"export_missing": False}), request.getfixturevalue("embedded"))
        await engine.start()
        try:
            return await work(engine, engine.repository.resolve(FACE))
        finally:
            await engine.close()

    return lambda work: asyncio.run(run(work))


def test_the_stand_ins_have_the_methods_of_the_engine(memory_engine, whole_engine, keeps_the_contract):
    keeps_the_contract(memory_engine)
    keeps_the_contract(whole_engine)


def test_a_question_loads_the_model_and_is_answered_picture_by_picture(ask, photo):
    async def work(engine, manifest):
        assert engine.loaded() == [] and engine.memory().reckoned == {}
        asked, results = await engine.infer(manifest, [photo, photo], {"confidence": 0.1})
        assert asked is manifest and len(results) == 2
        for points, detections in results:
            assert isinstance(points, KeyPoints) and isinstance(detections, Detections)
            assert detections.image_metadata == {"height": 512, "width": 512} and len(points.xy) == len(detections)
        assert engine.loaded() == [manifest] and engine.memory().reckoned[FACE] > 0

    ask(work)


def test_regions_are_refused_by_a_model_that_takes_none(ask, photo):
    async def work(engine, manifest):
        with pytest.raises(errors.InvalidParameter, match="region"):
            await engine.infer(manifest, [photo], {}, regions=HALVES)

    ask(work)


def test_a_picture_can_be_asked_about_as_a_sample(ask, photo):
    async def work(engine, manifest):
        asked, (answer,) = await engine.ask(manifest, [{"image": photo}], {})
        assert asked is manifest and isinstance(answer[0], KeyPoints)

    ask(work)


def test_an_unknown_entry_point_is_refused(ask):
    async def work(engine, manifest):
        with pytest.raises(errors.InvalidParameter, match="does not take text"):
            await engine.ask(manifest, [{"text": b"a"}], {}, role="text")

    ask(work)


@pytest.mark.parametrize("parameters", [{"bogus": 1}, {"confidence": 1.5}, {"classes": ["face"]}])
def test_a_setting_that_is_unknown_or_out_of_range_is_refused(ask, photo, parameters):
    async def work(engine, manifest):
        with pytest.raises(errors.InvalidParameter):
            await engine.infer(manifest, [photo], parameters)

    ask(work)


def test_a_caller_that_does_not_wait_for_a_load_is_refused_until_it_ends(ask, photo):
    async def work(engine, manifest):
        for call in (
            lambda: engine.infer(manifest, [photo], {}, wait=False),
            lambda: engine.ask(manifest, [{"image": photo}], {}, wait=False),
            lambda: engine.load(FACE, wait=False),
        ):
            with pytest.raises(errors.ModelLoading) as refused:
                await call()
            assert refused.value.retry_after
            assert await engine.load(FACE) is manifest
            await call()
            await engine.unload(FACE)

    ask(work)


def test_unknown_names_are_a_404_to_load_and_ignored_by_unload(ask):
    async def work(engine, manifest):
        with pytest.raises(errors.UnknownModel):
            await engine.load("nobody/1")
        await engine.unload("nobody/1")
        assert engine.loaded() == []

    ask(work)


def test_an_alias_names_the_model_to_a_load_and_to_an_unload(ask):
    async def work(engine, manifest):
        assert await engine.load("mediapipe/face-detector") is manifest
        await engine.unload("mediapipe/face-detector")
        assert engine.loaded() == [] and engine.memory().reckoned == {}

    ask(work)


def test_a_model_of_another_task_refuses_chat_and_grids(ask, photo):
    async def work(engine, manifest):
        for pieces in (engine.chat(manifest, [], [photo], {}), engine.generate_masks(manifest, photo, {})):
            with pytest.raises(errors.InvalidParameter, match="does keypoint-detection, not"):
                await anext(pieces)
        assert engine.loaded() == []

    ask(work)


def test_a_server_that_runs_is_live_and_ready_whatever_is_loaded(ask):
    async def work(engine, manifest):
        assert engine.live() and await engine.ready() and await engine.ready(manifest)
        await engine.load(FACE)
        assert await engine.ready(manifest)
        assert await engine.ready(replace(manifest, id="not/loaded"))
        engine.check_room(manifest)

    ask(work)
