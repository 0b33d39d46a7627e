"""Callers of a model in Triton: a single one, several in a closed loop, and arrivals of a Poisson process."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tritonvision import tasks
from tritonvision.endpoint import CHANNEL_OPTIONS
from tritonvision.exporters.parity import sample_pictures

_VIEWS = 8
_SIZE = (1280, 720)  # width, height
_TIMEOUT = 60.0
# What a task has to be asked besides the picture.
_SETTINGS: dict[str, dict[str, Any]] = {
    tasks.PROMPTABLE.name: {"points": [[640, 360]], "point_labels": [1]},
    tasks.OPEN_VOCABULARY.name: {"texts": ["a person"]},
}


@dataclass
class Window:
    """What callers saw for a while.

    Attributes:
        seconds: it lasted.
        milliseconds: of each answer.
        failures: requests without an answer.
    """

    seconds: float = 0.0
    milliseconds: list[float] = field(default_factory=list)
    failures: int = 0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.milliseconds) / self.seconds if self.seconds else 0.0

    def percentile(self, q: float) -> float:
        """Within how many milliseconds the share ``q`` of all requests was answered; infinity where it was not."""
        ordered = sorted(self.milliseconds) + [float("inf")] * self.failures
        return ordered[min(int(q * len(ordered)), len(ordered) - 1)] if ordered else float("inf")


class Callers:
    """Asks one Triton model about pictures that all differ. To be used and closed in one event loop.

    Args:
        address: gRPC address of the server.
        model: Triton name of a public model.
        task: of the model, which says what is asked.
    """

    def __init__(self, address: str, model: str, task: str):
        self._client = InferenceServerClient(address, channel_args=list(CHANNEL_OPTIONS))
        self._model, self._settings = model, json.dumps(_SETTINGS.get(task, {})).encode()
        self._pictures = pictures()
        self._random = random.Random(0)

    async def close(self) -> None:
        """Drop the connection."""
        await self._client.close()

    async def ask(self, count: int) -> None:
        """So many requests one after another, measured by nobody. Raises InferenceServerException."""
        for _ in range(count):
            await self._ask()

    async def closed_loop(self, callers: int, seconds: float) -> Window:
        """Each caller asks again when it has its answer."""
        window, began = Window(), time.perf_counter()

        async def caller() -> None:
            while time.perf_counter() < began + seconds:
                await self._timed(window, time.perf_counter())

        async with asyncio.TaskGroup() as group:
            for _ in range(callers):
                group.create_task(caller())
        window.seconds = time.perf_counter() - began
        return window

    async def poisson(self, rate: float, seconds: float) -> Window:
        """Requests that come when they come, ``rate`` a second; their time counts from when they should have left."""
        window, began = Window(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            due = began
            while (due := due + self._random.expovariate(rate)) < began + seconds:
                await asyncio.sleep(max(due - time.perf_counter(), 0))
                group.create_task(self._timed(window, due))
        window.seconds = time.perf_counter() - began
        return window

    async def _timed(self, window: Window, began: float) -> None:
        try:
            await self._ask()
        except InferenceServerException:  # a queue that is full, too
            window.failures += 1
            await asyncio.sleep(0.01)  # a refusal is quick: those who ask again at once would keep the cores busy
        else:
            window.milliseconds.append((time.perf_counter() - began) * 1000)

    async def _ask(self) -> None:
        given = {"image": next(self._pictures), "parameters": self._settings}
        await self._client.infer(
            self._model, [_input(name, value) for name, value in given.items()], client_timeout=_TIMEOUT
        )


def pictures() -> Iterator[bytes]:
    """JPEGs of 1280x720 without end, no two with the same bytes: what was encoded once is not found in a cache."""
    photo, views = Image.fromarray(sample_pictures.photo()), []
    for i in range(_VIEWS):
        stream = io.BytesIO()
        photo.crop((8 * i, 16 * i, 384 + 8 * i, 216 + 16 * i)).resize(_SIZE).save(stream, "JPEG", quality=85)
        views.append(stream.getvalue())
    for number in itertools.count():
        jpeg = views[number % _VIEWS]
        comment = b"\xff\xfe\x00\x0a" + number.to_bytes(8, "big")  # its length counts the two bytes that tell it
        yield jpeg[:2] + comment + jpeg[2:]


def _input(name: str, value: bytes) -> InferInput:
    given = InferInput(name, [1, 1], "BYTES")
    given.set_data_from_numpy(np.array([[value]], dtype=np.object_))
    return given
