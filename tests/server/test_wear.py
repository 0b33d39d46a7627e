"""What a tritonserver keeps of processes that ended; ``make chaos FAULTS=worn`` shows that it is replaced for it."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress

import pytest
from settling import settles

from tritonvision.client import TritonClient
from tritonvision.errors import TritonVisionError
from tritonvision.server import Embedded, stubs
from tritonvision.server import embedded as module

FACE = "mediapipe-face-detection"
NET = f"net--{FACE}"


def killed_at_work(embedded: Embedded, photo: bytes) -> None:
    """Kill a process of the network while it has a request."""

    def ask() -> None:
        with suppress(TritonVisionError), TritonClient(embedded.address) as client:
            client.infer(FACE, photo)

    working = next(stub for stub in embedded.processes() if stub.model == NET)
    os.kill(working.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(20) as callers:  # until one of them is in the process that was stopped
        while wait([callers.submit(ask)], 0.5).done:
            pass
        os.kill(working.pid, signal.SIGKILL)


def test_of_processes_that_ended_at_work_it_keeps_their_models_and_says_that_it_is_worn(
    embedded: Embedded, photo: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stubs, "MOST_HELD", 0)
    embedded.load(FACE)
    idle = next(stub for stub in embedded.processes() if stub.model == NET)
    os.kill(idle.pid, signal.SIGKILL)
    assert settles(lambda: idle.pid not in stubs.of_server(embedded.pid)) and embedded.wait_healed(20)
    assert settles(lambda: not stubs.worn(embedded.pid)), "it keeps the model of a process that had nothing to do"
    killed_at_work(embedded, photo)
    assert embedded.wait_healed(20) and stubs.worn(embedded.pid)
    time.sleep(2)
    assert stubs.worn(embedded.pid), "it lets go of them: this Triton needs no replacing"


def test_the_other_processes_of_a_model_that_is_unloaded_end_where_one_died_at_work(
    settings, photo: bytes, monkeypatch: pytest.MonkeyPatch
):
    """Triton lets them live for ever."""
    monkeypatch.setattr(module, "_RETIREMENT", 1.0)
    server = Embedded(settings.model_copy(update={"deadline": 1.0}))
    server.start()
    try:
        server.load(FACE)
        monkeypatch.setattr(server, "_heal", lambda model: None)  # it is unloaded before it is healed
        killed_at_work(server, photo)
        server.unload(FACE)
        server.unload(NET)
        assert settles(lambda: all(stub.model != NET for stub in stubs.of_server(server.pid).values()))
    finally:
        server.stop()
