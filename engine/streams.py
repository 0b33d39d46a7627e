"""Streams of a model that remembers: which are open, and one request of each after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from tritonvision.engine import codec, failures
from tritonvision.engine.codec import SequenceStep
from tritonvision.engine.loader import Loader
from tritonvision.engine.triton_calls import TritonCalls
from tritonvision.errors import InvalidParameter, NotSupported, Overloaded, TritonVisionError
from tritonvision.publication import Manifest
from tritonvision.results import TrackedMasks
from tritonvision.streams import IDLE_SECONDS, MOST
from tritonvision.tasks import TRACKING


@dataclass
class _Open:
    """One stream: its model, when it was last asked, and a lock, because its requests have an order.

    Attributes:
        given_up: a request of it was cancelled, so whether it counted is not known: it takes a place, and no requests.
    """

    model: str
    used: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    given_up: bool = False


class Streams:
    """The streams of one engine. One more than there is room for is refused, where Triton would let it wait.

    Args:
        resolve: the published model of a name, checked to do a task.
        deadline: seconds one request may take.
        clock: seconds, never going back.
    """

    def __init__(
        self, client: TritonCalls, loader: Loader, resolve: Callable[[Manifest | str, str], Manifest],
        deadline: float, clock: Callable[[], float] = time.monotonic,
    ):  # fmt: skip
        self._client, self._loader, self._resolve = client, loader, resolve
        self._deadline, self._clock = deadline, clock
        self._open: dict[int, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def knows(self, stream: int) -> bool:
        """Whether that stream is open."""
        return stream in self._open and not self._open[stream].given_up

    async def step(
        self, model: Manifest | str, frame: bytes | None, parameters: Mapping[str, Any], stream: int | None = None,
        *, wait: bool = True,
    ) -> tuple[int, TrackedMasks]:  # fmt: skip
        """The next request of a stream, which is never sent twice: the first time may have counted.

        Args:
            frame: the next one, encoded, or ``.npy`` bytes (RGB); None for prompts about one before.
            parameters: settings of :data:`tritonvision.tasks.TRACKING`.
            stream: its number, or None for one that begins.
            wait: whether to wait for a model that is not loaded yet; else ModelLoading at once.

        Returns:
            The number of the stream, and the objects on the frame.

        Raises:
            Overloaded: there is no room for one more stream.
            InvalidParameter: the stream is not known, or what the model refuses.
            UnknownModel, ModelLoading, DeadlineExceeded, ServerUnavailable, ...
        """
        manifest = self._resolve(model, TRACKING.name)
        with self._loader.loaded_models.using(manifest):
            await self._loader.ensure(manifest, wait)
            number = self._begin(manifest) if stream is None else stream
            one = self._known(manifest, number)
            sample: dict[str, bytes | np.ndarray] = {} if frame is None else {"image": frame}
            async with one.lock:
                self._known(manifest, number)  # it may have ended while this request waited for its turn
                try:
                    rows = await self._call(manifest, sample, parameters, SequenceStep(number, start=stream is None))
                except TritonVisionError:
                    if stream is None:  # nobody was told its number
                        await self.end(manifest, number)
                    raise
                except asyncio.CancelledError:
                    one.given_up = True
                    raise
                one.used = self._clock()
        found = codec.to_result(rows, parameters)
        assert isinstance(found, TrackedMasks)
        return number, found

    async def end(self, model: Manifest | str, stream: int) -> None:
        """Forget a stream. One that is not known has ended already."""
        manifest = self._resolve(model, TRACKING.name)
        if self._open.pop(stream, None) is not None:
            with suppress(TritonVisionError):  # it is forgotten in a minute in any case
                await self._call(manifest, {}, {"mask_format": "none"}, SequenceStep(stream, end=True))

    async def _call(
        self, manifest: Manifest, sample: Mapping[str, Any], parameters: Mapping[str, Any], step: SequenceStep
    ) -> dict[str, np.ndarray]:
        try:
            (row,) = await self._client.call(
                manifest.triton_name, [sample], [parameters], self._deadline, sequence=step
            )
        except grpc.RpcError as error:
            if failures.lost_process(error) or failures.not_loaded(error) or failures.lost_sequence(error):
                self._open.pop(step.id, None)
            raise failures.to_error(error) from error
        return row

    def _begin(self, manifest: Manifest) -> int:
        """The number of a new stream. Raises Overloaded."""
        now = self._clock()
        self._open = {n: one for n, one in self._open.items() if now - one.used <= IDLE_SECONDS or one.lock.locked()}
        most = MOST * self._client.width
        if sum(one.model == manifest.id for one in self._open.values()) >= most:
            raise Overloaded(
                f"All {most} streams of '{manifest.id}' are in use.",
                hint=f"End one of them, or wait: one without a request for {IDLE_SECONDS} seconds is forgotten.",
                retry_after=IDLE_SECONDS,
            )
        number = self._client.new_sequence(manifest.triton_name)
        self._open[number] = _Open(manifest.id, now)
        return number

    def _known(self, manifest: Manifest, number: int) -> _Open:
        one = self._open.get(number)
        idle = one is not None and self._clock() - one.used > IDLE_SECONDS and not one.lock.locked()
        if one is None or one.model != manifest.id or one.given_up or idle:
            raise InvalidParameter(
                f"The stream {number} is not known here: it ended, its process was lost, or nothing was asked of it "
                f"for {IDLE_SECONDS} seconds.", hint="Begin another one with a prompt.",
            )  # fmt: skip
        return one


def check_alone(manifest: Manifest) -> None:
    """Raises NotSupported of a model that is asked by streams only."""
    if manifest.task == TRACKING.name:
        raise NotSupported(
            f"'{manifest.id}' follows objects through a stream, and says nothing about a picture alone.",
            hint=f"Use prompt and track of AutoModel, the WebSocket /streams/{manifest.id}, or predict with a video.",
        )
