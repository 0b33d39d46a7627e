"""More work than a model can do, on the real tritonserver: what is given up is not done, the next caller is answered.

The model is the face detector with a network that sleeps instead, published as it was before queues were bounded.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonvision.engine.engine import Engine
from tritonvision.engine.model_queue import CALLER
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.errors import DeadlineExceeded, Overloaded
from tritonvision.publication import MANIFEST
from tritonvision.server import Embedded
from tritonvision.settings import Settings

FACE = "mediapipe-face-detection"
SECONDS = 0.1
PLACES = 6  # three for each of its two processes
SLEEPER = f'''
import pathlib, time
import numpy as np
import triton_python_backend_utils as pb_utils

RUNS = pathlib.Path(__file__).with_name("runs")
OUTPUTS = {{"boxes": [1, 4], "scores": [1], "class_ids": [1], "keypoints": [1, 6, 2]}}


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        with open(RUNS, "ab") as runs:
            runs.write(b".")
        time.sleep({SECONDS})
        batch = request.inputs()[0].as_numpy().shape[0]
        return pb_utils.InferenceResponse([
            pb_utils.Tensor(name, np.zeros([batch, *shape], np.int32 if name == "class_ids" else np.float32))
            for name, shape in OUTPUTS.items()
        ])
'''


class Slow:
    """The server with the slow model, and how often its network ran."""

    def __init__(self, server: Embedded, settings: Settings):
        self.server, self.settings = server, settings
        self._file = settings.repository / f"net--{FACE}" / "1" / "runs"

    @property
    def runs(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0


@pytest.fixture(scope="module")
def slow(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    root = tmp_path_factory.mktemp("slow") / "models"
    shutil.copytree(settings.repository, root)
    net = root / f"net--{FACE}"
    (net / "1" / "model.onnx").unlink()
    (net / "1" / "model.py").write_text(SLEEPER)
    for path in root.glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), pb.ModelConfig())
        if path.parent == net:
            config.backend = "python"
        if config.platform != "ensemble":
            config.ClearField("dynamic_batching")
        path.write_text(text_format.MessageToString(config))
    manifest = root / FACE / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": {}}))
    own = settings.model_copy(update={"repository": root})
    server = Embedded(own)
    server.start()
    yield Slow(server, own)
    server.stop()


def using(slow: Slow, work: Callable[[Engine], Awaitable], **options) -> None:
    async def run():
        engine = Engine(slow.settings.model_copy(update=options), slow.server)
        await engine.start()
        try:
            await engine.load(FACE)
            await work(engine)
        finally:
            await engine.close()

    asyncio.run(run())


async def ended(tasks: list[asyncio.Task]) -> list:
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_of_what_is_cancelled_no_more_runs_than_had_begun(slow: Slow, photo):
    async def work(engine: Engine):
        before = slow.runs
        tasks = [asyncio.create_task(engine.infer(FACE, [photo], {})) for _ in range(60)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        answered = sum(not isinstance(result, BaseException) for result in await ended(tasks))
        await engine.infer(FACE, [photo], {})  # its turn comes after all that had begun
        assert slow.runs - before <= answered + PLACES + 1

    using(slow, work)


def test_under_more_than_it_can_do_it_answers_at_its_rate_and_refuses_the_rest_in_good_time(slow: Slow, photo):
    """80 requests are 4 s of work and the deadline is 2: a part is answered, and no run is for nobody."""

    async def work(engine: Engine):
        for _ in range(3):
            await engine.infer(FACE, [photo], {})
        before = slow.runs
        tasks = [asyncio.create_task(engine.infer(FACE, [photo], {})) for _ in range(80)]
        results = await ended(tasks)
        refused = [result for result in results if isinstance(result, BaseException)]
        answered = len(results) - len(refused)
        assert refused and all(isinstance(error, Overloaded | DeadlineExceeded) for error in refused)
        assert all(error.retry_after >= 1 for error in refused)
        assert answered >= PLACES and slow.runs - before == answered
        await engine.infer(FACE, [photo], {})  # whoever comes next is answered

    using(slow, work, deadline=2.0)


def test_a_modest_caller_is_answered_beside_a_greedy_one(slow: Slow, photo):
    """40 requests of one caller take two seconds; two of another, one after the other, do not wait for them."""

    async def work(engine: Engine):
        CALLER.set("greedy")
        greedy = [asyncio.create_task(engine.infer(FACE, [photo], {})) for _ in range(40)]
        await asyncio.wait(greedy, return_when=asyncio.FIRST_COMPLETED)
        CALLER.set("modest")
        for _ in range(2):
            await engine.infer(FACE, [photo], {})
        assert sum(not task.done() for task in greedy) > 10
        await asyncio.gather(*greedy)

    using(slow, work)


def test_a_caller_with_a_triton_client_of_their_own_meets_a_bounded_queue(slow: Slow, photo):
    async def work(engine: Engine):
        client = AsyncTritonClient(slow.server.address)
        before = slow.runs
        try:
            results = await ended([asyncio.create_task(client.infer(FACE, photo)) for _ in range(60)])
        finally:
            await client.close()
        refused = [result for result in results if isinstance(result, BaseException)]
        assert refused and all(isinstance(error, Overloaded) for error in refused)
        assert slow.runs - before == 60 - len(refused)

    using(slow, work)


def test_what_is_published_again_is_loaded_again_though_its_queue_was_bounded_at_the_load(slow: Slow, photo):
    """Last in this module: the network is quick from here on."""
    code: Path = slow.settings.repository / f"net--{FACE}" / "1" / "model.py"
    code.write_text(SLEEPER.replace('"runs"', '"runs-anew"'))
    slow.server.load(f"net--{FACE}")

    async def work(engine: Engine):
        await engine.infer(FACE, [photo], {})
        assert code.with_name("runs-anew").stat().st_size == 1

    using(slow, work)
