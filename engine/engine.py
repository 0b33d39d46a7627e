"""The data plane every dialect shares: a name and pictures in, result types out.

It loads a model on the first request that names it, admits as many requests as it can answer in time, calls Triton with
a deadline, and retries after a process was lost.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
import numpy as np

from tritonvision.engine import codec, failures, mask_grid, pool, readiness
from tritonvision.engine.export_runner import Exports
from tritonvision.engine.forwarding import Forwarding
from tritonvision.engine.golden_check import Verdict
from tritonvision.engine.loaded_models import LoadedModels, Memory
from tritonvision.engine.loader import Loader
from tritonvision.engine.model_queue import ModelQueue, processes_of_narrowest
from tritonvision.engine.model_times import ModelTimes
from tritonvision.engine.pieces import parts
from tritonvision.engine.published import Published
from tritonvision.engine.quarantine import Quarantine
from tritonvision.engine.second_try import first_answer
from tritonvision.engine.step_times import PieceTimes
from tritonvision.engine.streams import Streams, check_alone
from tritonvision.engine.triton_calls import EndpointFigures
from tritonvision.errors import DeadlineExceeded, one_of_several
from tritonvision.publication import Manifest, Repository
from tritonvision.results import Delta, Result, SAMPrediction
from tritonvision.server import Embedded
from tritonvision.settings import Settings
from tritonvision.tasks import PROMPTABLE, VLM

T = TypeVar("T")
_CONCURRENT = 8  # pictures of one request that run or queue at once, so that it does not keep the others waiting
_PLACES_PER_PROCESS = 3  # requests in Triton: one runs, the others are being decoded or answered, or come next
_PLACES_OF_OTHERS = 16  # of somebody else's Triton the processes, devices and batchers are not known here
_ROWS = 16  # answers that a generating model writes at the same time: the rows of its batch
_RETRIES = 3
_BATCH = 8  # samples of one Triton request: what the steps' configs allow
_OUTPUTS = {PROMPTABLE.name: ("masks", "scores", "low_res_masks", "image_size")}  # where megabytes more could be said
_Batch = tuple[Sequence[codec.Sample], Sequence[Mapping[str, Any]]]


class Engine:
    """Runs inference on the models of one Triton.

    Args:
        settings: where the repository is, deadlines.
        server: the tritonserver we own, or None to use those at ``settings.triton_url``.
        exportable: ids of the catalogue that this version can export; None when that is not known.

    Attributes:
        address: gRPC ``host:port`` of the Triton that is asked, or ``unix:`` and the path of its socket; several with
            commas between them.
    """

    def __init__(self, settings: Settings, server: Embedded | None = None, exportable: Collection[str] | None = None):
        self.address = settings.triton_url or "" if server is None else server.address
        self._connect, admin = pool.connections(settings, server)
        self.repository, self.server_id = Repository(settings.repository), str(uuid.uuid4())
        self.exportable, self._settings, self._server = exportable, settings, server
        self._exports = Exports(settings) if server is not None and settings.export_missing else None
        self.published = Published(self.repository, exportable, self._exports)
        self._loader = Loader(settings, admin, self.published.resolve)
        self._queues: dict[str, ModelQueue] = {}
        self._quarantine = Quarantine()

    @property
    def loaded_models(self) -> LoadedModels:
        """The loaded models and their running requests."""
        return self._loader.loaded_models

    async def start(self) -> None:
        """Connect. The server need not answer yet."""
        self._client = self._connect()
        await self._client.start()
        self._loader.ask_golden(self._client)
        self.streams = Streams(self._client, self._loader, self.published.resolve, self._settings.deadline)
        self.forwarding = Forwarding(self._client, self._loader, self._sent, self._queue, self._loses, self._settings)

    async def close(self) -> None:
        """Drop connections and running exports; a server given to us is the giver's to stop."""
        await self._loader.close()
        for queue in self._queues.values():
            queue.close()
        if self._exports:
            await self._exports.close()
        await self._client.close()

    async def infer(
        self, model: Manifest | str, pictures: Sequence[bytes], parameters: Mapping[str, Any], *, wait: bool = True,
        regions: Sequence[Sequence[float]] | None = None,
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """The answers of a model for encoded pictures (or ``.npy`` bytes, RGB), in order.

        Args:
            model: its manifest, or a name of it.
            parameters: settings of the model's task, see :mod:`tritonvision.tasks`.
            wait: whether to wait for a model that is not loaded yet; else ModelLoading at once.
            regions: parts of the only picture, each (centre x, centre y, width, height) in pixels: one answer a region.

        Raises:
            UnknownModel, ModelLoading, Overloaded, InvalidParameter, InvalidPicture, DeadlineExceeded,
            ServerUnavailable, ...
        """
        if regions is None:
            batches = [([{"image": picture}], [parameters]) for picture in pictures]
        else:  # one copy of the picture a batch: an empty sample repeats the one before it
            batches = [
                (
                    [{"image": b"" if i else pictures[0]} for i in range(len(part))],
                    [{**parameters, "region": [float(v) for v in region]} for region in part],
                )
                for part in parts(regions, _BATCH)
            ]
        return await self._ask_batches(self.published.resolve(model), batches, parameters, wait=wait)

    async def ask(
        self, model: Manifest | str, samples: Sequence[codec.Sample], parameters: Mapping[str, Any], *, role: str = "",
        outputs: Collection[str] = (), wait: bool = True,
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """As :meth:`infer`, for an entry point with other inputs than pictures alone.

        Args:
            samples: inputs by name; texts go several at once, everything else one by one.
            role: of the entry point, e.g. ``text``.
            outputs: what is wanted; everything when empty.
        """
        manifest, size = self.published.resolve(model), _BATCH if "text" in samples[0] else 1
        batches = [(part, [parameters] * len(part)) for part in parts(samples, size)]
        return await self._ask_batches(manifest, batches, parameters, wait=wait, role=role, outputs=outputs)

    async def chat(
        self, model: Manifest | str, messages: Sequence[Mapping[str, Any]], pictures: Sequence[bytes],
        parameters: Mapping[str, Any], *, wait: bool = True,
    ) -> AsyncGenerator[Delta, None]:  # fmt: skip
        """The pieces of a generated answer. Closing the iterator cancels the request in Triton.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``.
            pictures: encoded, in the order of the image parts.
            parameters: settings of :data:`tritonvision.tasks.VLM`.
            wait: as for :meth:`infer`.

        Raises:
            As :meth:`infer`; a process lost after the first piece is an error, since a retry would repeat text.
        """
        manifest = self.published.resolve(model, VLM.name)
        self.check_room(manifest)
        for picture in pictures:
            self._quarantine.check(picture)
        request = codec.encode_chat(manifest.triton_name, pictures, messages, parameters)
        with self.loaded_models.using(manifest):
            await self._loader.ensure(manifest, wait)
            queue = self._queue(manifest)
            said = self._said(request, manifest, pictures[0] if pictures else b"")
            async with queue.place(queue.longest_wait()), aclosing(said):
                async for delta in said:
                    yield delta

    async def _said(self, request: Any, manifest: Manifest, suspect: bytes) -> AsyncGenerator[Delta, None]:
        """The pieces of an answer, with a retry if a process is lost before the first one."""
        for attempt in range(_RETRIES + 1):
            said, death = False, self.losses()[0] + 1
            times, idle = PieceTimes(), self._settings.stream_idle_timeout
            pieces = self._client.stream(request, idle, self._loses(manifest.triton_name), affinity=suspect)
            try:
                async for delta in pieces:
                    said = True
                    times.piece()
                    yield delta
            except TimeoutError as error:
                raise DeadlineExceeded(hint="Raise TRITONVISION_STREAM_IDLE_TIMEOUT, or send less at once.") from error
            except grpc.RpcError as error:
                if said or attempt == _RETRIES or not await self._mend(error, manifest, suspect, attempt, death):
                    raise failures.to_error(error) from error
            else:
                return
            finally:
                times.end()
                await pieces.aclose()

    async def generate_masks(
        self, model: Manifest | str, picture: bytes, parameters: Mapping[str, Any], *, wait: bool = True
    ) -> AsyncGenerator[mask_grid.Progress | SAMPrediction, None]:
        """Every object of a picture, as :func:`mask_grid.walk` finds them. Closing the iterator cancels the rest.

        Args:
            parameters: of :data:`mask_grid.PARAMETERS`.
            wait: as for :meth:`infer`.

        Raises:
            As :meth:`infer`; each step has the stream idle timeout, and there is no total deadline.
        """
        manifest = self.published.resolve(model, PROMPTABLE.name)
        self.check_room(manifest)

        async def ask(sample: codec.Sample, given: Mapping[str, Any], outputs: Collection[str]) -> Result:
            (row,) = await self._ask(manifest, [sample], [given], "", outputs, self._settings.stream_idle_timeout)
            return _result(row, manifest, given)

        with self.loaded_models.using(manifest):
            await self._loader.ensure(manifest, wait)
            async with aclosing(mask_grid.walk(ask, picture, parameters)) as steps:
                async for step in steps:
                    yield step

    def _loses(self, model: str) -> Callable[[], bool]:
        """Whether a process of the Triton model ``model`` is lost from now on, as far as this process can know."""
        return self._server.loses(model) if self._server is not None else lambda: False

    async def load(self, name: str, *, wait: bool = True) -> Manifest:
        """Load the model called ``name`` if it is not loaded. Arguments and errors as for :meth:`infer`."""
        manifest = self.published.resolve(name)
        await self._loader.ensure(manifest, wait)
        return manifest

    async def verify(self, name: str) -> Verdict:
        """Ask a model its golden questions, see :meth:`tritonvision.engine.loader.Loader.verify`."""
        return await self._loader.verify(self.published.resolve(name))

    async def times(self, name: str) -> tuple[Manifest, list[ModelTimes]]:
        """Where the time of a model, its steps and the models that it asks went; nothing of what is not loaded."""
        manifest = self.published.resolve(name)
        asked = [name for need in manifest.needs for name in self.published.resolve(need).triton_names]
        return manifest, await self._client.times([*manifest.triton_names, *manifest.steps, *asked])

    async def statistics(self) -> list[ModelTimes]:
        """What Triton counted of every model since it was loaded. Raises ServerUnavailable, and others of the tree."""
        return await self._client.statistics()

    def endpoints(self) -> list[EndpointFigures]:
        """Each of several tritonservers that are asked; none where there is but one."""
        return self._client.endpoints()

    async def unload(self, name: str) -> None:
        """Unload a model, the models that depend on it, and steps no other uses. Does nothing if it is not loaded."""
        await self._loader.unload(name)

    def check_room(self, manifest: Manifest, requests: int = 1, role: str = "") -> None:
        """Raises Overloaded when ``requests`` more to this model would wait longer than half a deadline."""
        if (queue := self._queues.get(manifest.entry_point(role))) is not None:
            queue.check_room(min(requests, _CONCURRENT))

    def loaded(self) -> list[Manifest]:
        """The models loaded now, from memory."""
        return list(self.loaded_models)

    def memory(self) -> Memory:
        """What the loaded models take, and may take."""
        return self.loaded_models.memory()

    def losses(self) -> tuple[int, int]:
        """Processes of our server that ended unexpectedly so far, and its starts after the first."""
        return (0, 0) if self._server is None else (self._server.deaths, max(self._server.starts - 1, 0))

    def live(self) -> bool:
        """Whether our server runs or is about to: no while its starts fail again and again."""
        return self._server is None or self._server.failure is None

    async def ready(self, manifest: Manifest | None = None) -> bool:
        """Whether the inference server answers and no part of it is being replaced.

        Args:
            manifest: of a model that has to be ready, too, if it is loaded, and must not have been refused.
        """
        if not (self._server is None or self._server.healthy()) or self.loaded_models.why_refused(manifest):
            return False
        if manifest is not None and self.loaded_models.get(manifest.id):
            return await self._client.ready(manifest.triton_name)
        return self._server is not None or await self._client.ready()

    async def why_model_not_ready(self, manifest: Manifest) -> str:
        """One sentence why the model would not answer at once, empty where it would; see :mod:`readiness`."""
        return await readiness.why_not_ready(manifest, self._loader, self._client, self._server, self.published.resolve)

    def why_not_ready(self, manifest: Manifest | None = None) -> str:
        """One sentence why, after :meth:`ready` or :meth:`live` was False."""
        if self._server is not None and self._server.failure is not None:
            return self._server.failure.message
        starting = "The inference server is starting, or a part of it is being replaced."
        return self.loaded_models.why_refused(manifest) or starting

    # ---- asking ------------------------------------------------------------------------------------------------

    async def _ask_batches(
        self, manifest: Manifest, batches: Sequence[_Batch], parameters: Mapping[str, Any], *, wait: bool,
        role: str = "", outputs: Collection[str] = (),
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """Runs several batches at once, their answers in order. The first failure is raised and cancels the rest."""
        if role not in manifest.roles:
            raise failures.no_entry_point(manifest, role)
        check_alone(manifest)
        self.check_room(manifest, len(batches), role)
        gate = asyncio.Semaphore(_CONCURRENT)
        pictures = len({id(samples[0].get("image")) for samples, _ in batches})  # regions are batches of one picture

        async def ask(number: int, batch: _Batch) -> list[Result]:
            async with gate:
                with one_of_several(number, pictures):
                    rows = await self._ask(manifest, *batch, role, outputs, self._settings.deadline)
            return [_result(row, manifest, parameters) for row in rows]

        with self.loaded_models.using(manifest):
            await self._loader.ensure(manifest, wait)
            if len(batches) == 1:
                return manifest, await ask(1, batches[0])
            tasks = [asyncio.create_task(ask(*numbered)) for numbered in enumerate(batches, 1)]
            try:
                answers = await asyncio.gather(*tasks)
            finally:
                for pending in tasks:
                    pending.cancel()
        return manifest, [result for answer in answers for result in answer]

    async def _ask(
        self, manifest: Manifest, samples: Sequence[codec.Sample], parameters: Sequence[Mapping[str, Any]], role: str,
        outputs: Collection[str], deadline: float,
    ) -> list[dict[str, np.ndarray]]:  # fmt: skip
        """Output tensors of each sample; ``deadline`` seconds include half of them, at most, in the model's queue."""
        model, outputs = manifest.entry_point(role), outputs or _OUTPUTS.get(manifest.task, ())
        image = samples[0].get("image")
        picture = image if isinstance(image, bytes) else b""  # a text has none
        remembered = picture if manifest.task == PROMPTABLE.name else b""  # one server has its encoding

        def send(seconds: float) -> Awaitable[list[dict[str, np.ndarray]]]:
            return self._client.call(model, samples, parameters, seconds, outputs, affinity=remembered)

        return await self._sent(manifest, role, send, picture, deadline)

    async def _sent(
        self, manifest: Manifest, role: str, send: Callable[[float], Awaitable[T]], picture: bytes, deadline: float
    ) -> T:
        """What ``send(seconds)`` gives, called from the queue of an entry point, and again after a process was lost."""
        queue, give_up = self._queue(manifest, role), time.monotonic() + deadline
        self._quarantine.check(picture)

        def left() -> float:
            return max(give_up - time.monotonic(), 0.001)

        for attempt in range(_RETRIES + 1):
            death = self.losses()[0] + 1
            try:
                answer = await queue.run(
                    lambda: first_answer(lambda: send(left()), queue.patience(deadline)), min(left(), deadline / 2)
                )
            except grpc.RpcError as error:
                last = attempt == _RETRIES or left() <= 0.001
                if last or not await self._mend(error, manifest, picture, attempt, death):
                    raise failures.to_error(error) from error
            else:
                self._quarantine.clear(picture)
                return answer
        raise DeadlineExceeded()

    def _queue(self, manifest: Manifest, role: str = "") -> ModelQueue:
        """The queue of a loaded model's entry point, as wide as the model is now."""
        name, (processes, places, deadline) = manifest.entry_point(role), self._room(manifest)
        queue = self._queues.setdefault(name, ModelQueue(processes, places, deadline))
        queue.resize(processes, places)
        return queue

    def _room(self, manifest: Manifest) -> tuple[int, int, float]:
        if manifest.task == VLM.name:
            return _ROWS, _ROWS, self._settings.stream_idle_timeout
        if self._server is None:
            servers = self._client.width
            return servers, servers * _PLACES_OF_OTHERS, self._settings.deadline
        narrowest = processes_of_narrowest(manifest, self._server.instances)
        return narrowest, _PLACES_PER_PROCESS * narrowest, self._settings.deadline

    async def _mend(self, error: grpc.RpcError, manifest: Manifest, picture: bytes, attempt: int, death: int) -> bool:
        """Repair what made a call fail; whether a retry can succeed. Inference has no side effects. ``death`` is the
        number of the first one after the call was sent, which all that were in progress at it name alike.
        """
        if failures.not_loaded(error):  # unloaded behind our back
            self.loaded_models.forget(manifest.id)
            await self._loader.ensure(manifest)
            return True
        if self._server is None or not failures.lost_process(error):
            return attempt == 0 and failures.of_one_process(error)
        if picture and "stub" in (error.details() or "").lower():
            self._quarantine.add(picture, death)  # at once: an answer that another process gives meanwhile clears it
        await self._loader.healed(self._settings.deadline)
        await asyncio.sleep(attempt)  # a server that is there again is found within two seconds, see CHANNEL_OPTIONS
        self._quarantine.check(picture)
        return True


def _result(tensors: Mapping[str, np.ndarray], manifest: Manifest, parameters: Mapping[str, Any]) -> Result:
    return codec.to_result(tensors, parameters, multi_label=manifest.multi_label, map_meaning=manifest.map_meaning)
