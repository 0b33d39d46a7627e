"""Fixtures: the facade over an engine that answers from memory (memory_engine.py), in-process and on a port."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from manifests import MANIFESTS, OTHERS, SIZE, publish
from memory_engine import MemoryEngine, WholeEngine
from PIL import Image
from starlette.testclient import TestClient

from tritonvision.facade.app import create_app
from tritonvision.facade.run import run
from tritonvision.settings import Settings


@pytest.fixture(scope="session")
def memory_engine() -> type[MemoryEngine]:
    """The class of the engine, for tests that override its answers."""
    return MemoryEngine


@pytest.fixture(scope="session")
def whole_engine() -> type[MemoryEngine]:
    """The class of the engine with models of every task."""
    return WholeEngine


@dataclass
class House:
    """A facade over a memory engine."""

    engine: MemoryEngine
    settings: Settings
    client: TestClient = field(repr=False)


class Held(asyncio.Event):
    """An event with a second one, ``reached``, that is set when something waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self) -> bool:
        self.reached.set()
        return await super().wait()


@pytest.fixture
def hold():
    """``hold(engine)``: an event that the engine's answers wait for from now on."""

    def on(engine: MemoryEngine) -> Held:
        engine.held = Held()
        return engine.held

    return on


def jpeg(size: tuple[int, int] = SIZE) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def picture() -> bytes:
    """A JPEG of 40 x 30 pixels."""
    return jpeg()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A facade with default settings."""
    yield from _open(tmp_path)


@pytest.fixture
def house_with(tmp_path: Path):
    """A facade with settings of the test's choice: ``house_with(api_key="k")``."""
    opened = []

    def make(**options: Any) -> House:
        opened.append(_open(tmp_path, **options))
        return next(opened[-1])

    yield make
    for house in opened:
        next(house, None)


def _open(root: Path, kind: type[MemoryEngine] = MemoryEngine, **options: Any) -> Iterator[House]:
    if not any(root.iterdir()):
        publish(root, MANIFESTS)
    settings = Settings(repository=root, **options)
    engine = kind(root)
    with TestClient(create_app(engine, settings), raise_server_exceptions=False) as client:
        yield House(engine, settings, client)

def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def _served(house: House, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(repository=house.settings.repository, port=free_port(), **options)
    app = create_app(house.engine, settings)
    up = asyncio.Event()
    task = asyncio.create_task(run(app, settings, ready=up.set))
    await asyncio.wait_for(up.wait(), 10)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.port}", timeout=20) as client:
            client.service = app.state.service
            yield client
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def served():
    """``async with served(house, **settings) as client``: the house's engine behind a facade on a port."""
    return _served


@pytest.fixture
def until():
    """``await until(condition)``, which fails after some seconds."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def whole_house(tmp_path: Path) -> Iterator[House]:
    """A facade with a model for every route."""
    yield from _open_whole(tmp_path)


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The same for all tests of a module, which must not change it."""
    yield from _open_whole(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def shared_house_with(tmp_path_factory: pytest.TempPathFactory):
    """``shared_house_with(...)``: the same with settings of the module's choice."""
    opened = []

    def make(**options: Any) -> House:
        opened.append(_open_whole(tmp_path_factory.mktemp("repository"), **options))
        return next(opened[-1])

    yield make
    for house in opened:
        next(house, None)


@pytest.fixture
def whole_house_with(tmp_path: Path):
    """The same with settings of the test's choice."""
    opened = []

    def make(**options: Any) -> House:
        opened.append(_open_whole(tmp_path, **options))
        return next(opened[-1])

    yield make
    for house in opened:
        next(house, None)


def _open_whole(root: Path, **options: Any) -> Iterator[House]:
    if not any(root.iterdir()):
        publish(root, (*MANIFESTS, *OTHERS))
    yield from _open(root, WholeEngine, **options)
