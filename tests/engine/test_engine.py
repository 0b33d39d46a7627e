"""The data plane over a real tritonserver: first-request loading, settings, refusals, retries, order."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from own_engine import with_engine

from tritonvision import errors
from tritonvision.engine.engine import Engine
from tritonvision.server import Embedded, process
from tritonvision.server.control import Control

FACE = "mediapipe-face-detection"


def test_the_first_request_loads_the_model_and_an_alias_names_it(settings, embedded, photo):
    async def work(engine: Engine):
        assert engine.loaded() == []
        manifest, [(points, detections)] = await engine.infer("mediapipe/face-detector", [photo], {})
        assert manifest.id == FACE
        assert [m.id for m in engine.loaded()] == [FACE]
        assert points.xy.shape == (1, 6, 2)
        assert detections.image_metadata == {"height": 512, "width": 512}
        assert detections.confidence[0] == pytest.approx(0.9217, abs=1e-4)

    with_engine(settings, embedded, work)


def test_answers_keep_the_order_of_the_pictures(settings, embedded, photo):
    import cv2
    import numpy as np

    picture = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR)
    widths = [512, 300, 512, 220, 400, 512, 512, 260, 333, 512]
    pictures = [cv2.imencode(".png", picture[:, :w])[1].tobytes() for w in widths]

    async def work(engine: Engine):
        _, results = await engine.infer(FACE, pictures, {})
        assert [detections.image_metadata["width"] for _, detections in results] == widths

    with_engine(settings, embedded, work)


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"bogus": 1}, errors.InvalidParameter),
        ({"confidence": 1.5}, errors.InvalidParameter),
        ({"confidence": "high"}, errors.InvalidParameter),
        ({"classes": ["face"]}, errors.InvalidParameter),
        ({"auto_orient": 3}, errors.InvalidParameter),
    ],
)
def test_a_setting_that_is_unknown_or_out_of_range_is_refused(settings, embedded, photo, parameters, error):
    with pytest.raises(error):
        with_engine(settings, embedded, lambda engine: engine.infer(FACE, [photo], parameters))


def test_settings_are_each_requests_own(settings, embedded, photo):
    async def work(engine: Engine):
        strict, loose = await asyncio.gather(
            engine.infer(FACE, [photo], {"confidence": 0.95}), engine.infer(FACE, [photo], {"confidence": 0.5})
        )
        assert [len(strict[1][0][1]), len(loose[1][0][1])] == [0, 1]
        filtered = await engine.infer(FACE, [photo], {"classes": []})
        assert len(filtered[1][0][1]) == 0

    with_engine(settings, embedded, work)


@pytest.mark.parametrize("picture", [b"", b"no picture", b"\x89PNG\r\n\x1a\n", "cut short"])
def test_a_bad_picture_is_refused_and_the_next_request_works(settings, embedded, photo, picture):
    bad = photo[: len(photo) // 2] if picture == "cut short" else picture

    async def work(engine: Engine):
        with pytest.raises(errors.InvalidPicture):
            await engine.infer(FACE, [bad], {})
        _, [(_, detections)] = await engine.infer(FACE, [photo], {})
        assert len(detections) == 1

    with_engine(settings, embedded, work)


def test_unknown_names_and_wrong_tasks_say_so(settings, embedded, photo):
    async def work(engine: Engine):
        with pytest.raises(errors.UnknownModel):
            await engine.infer("nobody/1", [photo], {})
        with pytest.raises(errors.InvalidParameter, match="does keypoint-detection, not vlm"):
            await anext(engine.chat(FACE, [], [photo], {}))

    with_engine(settings.model_copy(update={"export_missing": False}), embedded, work)


def test_a_model_that_loads_can_be_told_not_to_wait(settings, embedded, photo):
    async def work(engine: Engine):
        with pytest.raises(errors.ModelLoading):
            await engine.infer(FACE, [photo], {}, wait=False)
        await engine.load(FACE)
        await engine.infer(FACE, [photo], {}, wait=False)

    with_engine(settings, embedded, work)


def test_killing_stubs_under_load_fails_no_request(settings, embedded: Embedded, photo):
    async def work(engine: Engine):
        await engine.load(FACE)
        answers: list = []
        stop = asyncio.Event()

        async def ask():
            while not stop.is_set():
                answers.append(await engine.infer(FACE, [photo], {}))

        async def more_answers(count: int):
            target = len(answers) + count
            async with asyncio.timeout(60):
                while len(answers) < target or not await engine.ready():
                    await asyncio.sleep(0.01)

        callers = [asyncio.create_task(ask()) for _ in range(4)]
        for _ in range(4):
            await more_answers(5)
            victim = max(embedded.processes(), key=lambda stub: stub.pid)
            os.kill(victim.pid, signal.SIGKILL)
        await more_answers(5)
        stop.set()
        await asyncio.gather(*callers)
        assert all(len(result[0][1]) == 1 for _, result in answers)

    with_engine(settings, embedded, work)


def test_a_load_in_the_middle_of_a_restart_waits_for_it(settings, embedded: Embedded, photo):
    async def work(engine: Engine):
        await engine.load(FACE)
        await engine.unload(FACE)
        os.kill(embedded.pid, signal.SIGKILL)
        await engine.load(FACE)
        os.kill(embedded.pid, signal.SIGKILL)
        await engine.unload(FACE)
        _, [(_, detections)] = await engine.infer(FACE, [photo], {})
        assert len(detections) == 1

    with_engine(settings, embedded, work)


def test_readiness_and_loads_need_no_thread_of_others(settings, embedded, photo):
    """Whatever else this process does in threads, probes are answered at once, and models load."""

    async def work(engine: Engine):
        busy, done = ThreadPoolExecutor(1), threading.Event()
        asyncio.get_running_loop().set_default_executor(busy)
        blocking = asyncio.get_running_loop().run_in_executor(None, done.wait)
        try:
            async with asyncio.timeout(30):
                loading = asyncio.create_task(engine.load(FACE))
                await asyncio.sleep(0)
                for _ in range(3):
                    assert await engine.ready()  # with a thread of others it would wait for ever
                manifest = await loading
                assert await engine.ready(manifest)
        finally:
            done.set()
            await blocking

    with_engine(settings, embedded, work)


def test_a_model_is_not_ready_while_triton_has_it_not(settings, embedded: Embedded, photo):
    async def work(engine: Engine):
        manifest = await engine.load(FACE)
        assert await engine.ready(manifest)
        embedded.unload(FACE)  # behind the engine's back
        assert not await engine.ready(manifest) and await engine.ready()
        await engine.infer(manifest, [photo], {})  # which loads it again
        assert await engine.ready(manifest)

    with_engine(settings, embedded, work)


def test_an_engine_is_live_until_its_server_cannot_be_started(settings, embedded):
    async def work(engine: Engine):
        assert engine.live() and await engine.ready()
        embedded.failure = errors.ServerUnavailable("It ended again and again.", retry_after=9)
        try:
            assert not engine.live() and not await engine.ready()
            assert engine.why_not_ready() == "It ended again and again."
            with pytest.raises(errors.ServerUnavailable) as refused:
                await engine.load(FACE)
            assert refused.value.retry_after == 9
        finally:
            embedded.failure = None
        assert engine.live() and await engine.ready()

    with_engine(settings, embedded, work)


def test_a_foreign_server_that_is_gone_is_not_ready_and_not_restarted(settings, embedded):
    foreign = settings.model_copy(update={"triton_url": "127.0.0.1:1"})

    async def work(engine: Engine):
        assert engine.live() and not await engine.ready()

    with_engine(foreign, None, work)


def test_a_model_published_again_is_loaded_again(settings, embedded, photo, tmp_path: Path):
    root = tmp_path / "again"
    shutil.copytree(settings.repository, root)
    own = settings.model_copy(update={"repository": root})
    server = Embedded(own)
    server.start()

    async def work(engine: Engine):
        first, _ = await engine.infer(FACE, [photo], {})
        manifest = root / FACE / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"weights": "official"', '"weights": "user"'))
        second, _ = await engine.infer(FACE, [photo], {}, wait=False)  # it was served a moment ago: nobody is refused
        assert (first.weights, second.weights) == ("official", "user")

    try:
        with_engine(own, server, work)
    finally:
        server.stop()


def test_a_corrupt_model_does_not_keep_the_others_from_serving(settings, photo, tmp_path: Path):
    root = tmp_path / "corrupt"
    shutil.copytree(settings.repository, root)
    for name in (FACE, f"net--{FACE}"):
        shutil.copytree(root / name, root / name.replace(FACE, "broken__1"))
        config = root / name.replace(FACE, "broken__1") / "config.pbtxt"
        config.write_text(config.read_text().replace(FACE, "broken__1"))
    manifest = root / "broken__1" / "manifest.json"
    text = manifest.read_text().replace(f"net--{FACE}", "net--broken__1")
    manifest.write_text(text.replace(FACE, "broken/1"))
    (root / "net--broken__1" / "1" / "model.onnx").write_bytes(b"garbage")
    own = settings.model_copy(update={"repository": root})
    server = Embedded(own)
    server.start()

    async def work(engine: Engine):
        with pytest.raises(errors.BrokenModel, match="The files of 'broken/1' are not those that were published."):
            await engine.infer("broken/1", [photo], {})
        _, [(_, detections)] = await engine.infer(FACE, [photo], {})
        assert len(detections) == 1

    try:
        with_engine(own, server, work)
    finally:
        server.stop()


def test_a_load_that_fails_inside_triton_names_the_log_to_the_operator_and_not_to_the_caller(
    settings, photo, tmp_path: Path, caplog
):
    root = tmp_path / "before"
    shutil.copytree(settings.repository, root)
    manifest = root / FACE / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": {}}))  # as it was before 0.2
    (root / f"net--{FACE}" / "1" / "model.onnx").write_bytes(b"garbage")
    own = settings.model_copy(update={"repository": root})
    server = Embedded(own)
    server.start()

    async def work(engine: Engine):
        with pytest.raises(errors.ServerUnavailable) as caught:
            await engine.infer(FACE, [photo], {})
        return str(caught.value) + caught.value.hint

    try:
        said = with_engine(own, server, work)
    finally:
        server.stop()
    assert str(own.log_dir) in caplog.text and str(own.log_dir) not in said


def test_a_known_model_that_is_not_published_is_exported_and_then_answers(settings, photo, tmp_path: Path):
    own = settings.model_copy(update={"repository": tmp_path / "empty"})
    server = Embedded(own)
    server.start()

    async def work(engine: Engine):
        for _ in range(300):
            try:
                _, [(_, detections)] = await engine.infer(FACE, [photo], {})
                return len(detections)
            except errors.ModelLoading as error:
                assert error.retry_after
                await asyncio.sleep(0.2)
        return None

    try:
        assert with_engine(own, server, work) == 1
    finally:
        server.stop()


def test_an_export_that_fails_is_said_and_not_tried_again_at_once(settings, embedded, photo, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # where the packages are there, its weights are not

    async def work(engine: Engine):
        for _ in range(300):
            try:
                await engine.infer("moondream2", [photo], {})
            except errors.ModelLoading:
                await asyncio.sleep(0.1)
            except errors.UnknownModel as error:
                return error.message
        return ""

    said = with_engine(settings, embedded, work)
    assert "its export failed" in said


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_no_export_makes_is_refused_at_once_where_that_is_known(settings, known):
    foreign = settings.model_copy(update={"triton_url": "127.0.0.1:1"})
    engine = Engine(foreign, None, exportable=[FACE] if known else None)
    refusal = errors.NotSupported if known else errors.UnknownModel
    with pytest.raises(refusal, match="'moondream2' (cannot be served by this version yet|is not published here)"):
        engine.published.resolve("moondream2")
    with pytest.raises(errors.UnknownModel, match="No model is called"):
        engine.published.resolve("nobody/1")


def test_without_an_own_server_nothing_is_exported(settings, embedded, photo):
    foreign = settings.model_copy(update={"triton_url": embedded.address})

    async def work(engine: Engine):
        with pytest.raises(errors.UnknownModel, match="not published here"):
            await engine.infer("moondream2", [photo], {})

    with_engine(foreign, None, work)


@pytest.fixture
def unmanaged(settings, monkeypatch):
    """A tritonserver as it is started by default: it loads everything at its start and then lets nobody load."""
    popen = process.subprocess.Popen
    options = {"--model-control-mode=explicit": "--model-control-mode=none"}
    monkeypatch.setattr(
        process.subprocess, "Popen", lambda command, **rest: popen([options.get(o, o) for o in command], **rest)
    )
    server = Embedded(settings)
    server.start()
    yield server
    server.stop()


def test_a_tritonserver_that_loads_by_itself_only_has_to_have_the_model(settings, unmanaged, photo):
    control = Control(unmanaged.address)
    deadline = time.monotonic() + 30
    while not (unmanaged.healthy() and control.ready(FACE)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    control.close()
    foreign = settings.model_copy(update={"triton_url": unmanaged.address})

    async def work(engine: Engine):
        _, [(_, detections)] = await engine.infer(FACE, [photo], {})
        return len(detections)

    assert with_engine(foreign, None, work) == 1
