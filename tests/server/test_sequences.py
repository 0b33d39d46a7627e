"""An entry point with state on the real tritonserver: a composition that counts the requests of each sequence."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import grpc
import pytest

from tritonvision.engine.codec import SequenceStep
from tritonvision.engine.failures import to_error
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.ensembles import model_configs
from tritonvision.ensembles.entry_points import Composition, SequenceBatching
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import InvalidParameter
from tritonvision.server import Embedded
from tritonvision.settings import Settings
from tritonvision.tasks import GAZE

COUNTER = Composition(
    "counter", 1, GAZE, (), (Tensor("count", "INT32", (1,)), Tensor("process", "INT32", (1,))),
    instances=2, sequence=SequenceBatching(most=2, idle_seconds=60), module="counter",
)  # fmt: skip
MODEL_PY = '''
import os
import sys
from types import ModuleType

import numpy as np

from tritonvision.tasks import GAZE


class Composition:
    def __init__(self, call, options):
        pass

    def begin(self):
        return []

    def answer(self, inputs, settings, wanted, state):
        state.append(inputs["image"])
        return {"count": np.int32([len(state)]), "process": np.int32([os.getpid()])}


counter = ModuleType("tritonvision.python_backend.compositions.counter")
counter.Composition, counter.TASK = Composition, GAZE
sys.modules[counter.__name__] = counter

from tritonvision.python_backend.composition import TritonPythonModel  # noqa: E402, F401
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    (root / "counter" / "1").mkdir(parents=True)
    (root / "counter" / "config.pbtxt").write_text(model_configs.public_config("counter", COUNTER))
    (root / "counter" / "manifest.json").write_text(json.dumps({}))
    (root / "counter" / "1" / "model.py").write_text(MODEL_PY)
    server = Embedded(Settings(repository=Path(root), log_dir=tmp_path_factory.mktemp("log")))
    server.start()
    server.load("counter")
    yield server
    server.stop()


def ask(server, *steps):
    """``(count, process)`` of each step, one after another; a refusal is raised as the user sees it."""

    async def run():
        found = []
        async with AsyncTritonClient(server.address) as client:
            for step in steps:
                try:
                    (row,) = await client.call("counter", [{"image": b"frame"}], [{}], 20.0, sequence=step)
                except grpc.RpcError as error:
                    raise to_error(error) from error
                found.append((int(row["count"][0]), int(row["process"][0])))
        return found

    return asyncio.run(run())


def test_the_requests_of_a_sequence_reach_one_process_which_remembers_them(server):
    turns = [SequenceStep(i, start=turn == 0, end=turn == 2) for turn in range(3) for i in (11, 12, 13, 14)]
    found = ask(server, *turns)
    for column in range(4):
        own = found[column::4]
        assert [count for count, _ in own] == [1, 2, 3]
        assert len({process for _, process in own}) == 1
    assert len({process for _, process in found}) == 2, "two processes, two sequences each"


def test_a_request_after_the_end_of_its_sequence_is_refused_in_a_sentence(server):
    ask(server, SequenceStep(21, start=True, end=True))
    with pytest.raises(InvalidParameter) as refused:
        ask(server, SequenceStep(21))
    assert "sequence" in refused.value.message.lower() and refused.value.hint


def test_a_sequence_whose_process_was_lost_is_refused_and_begins_again(server):
    ((_, process),) = ask(server, SequenceStep(31, start=True))
    deaths, give_up = server.deaths, time.monotonic() + 20
    os.kill(process, signal.SIGKILL)
    while server.deaths == deaths and time.monotonic() < give_up:
        time.sleep(0.01)
    assert server.wait_healed(20)
    with pytest.raises(InvalidParameter):
        ask(server, SequenceStep(31))
    ((count, _),) = ask(server, SequenceStep(31, start=True, end=True))
    assert count == 1
