"""The data plane every dialect shares: a name and pictures in, result types out.

It loads a model on the first request that names it, asks Triton with a deadline, retries what met a dead process, and
cancels in Triton what a caller has abandoned.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np

from tritonvision import catalog
from tritonvision.engine import codec, failures, mask_grid
from tritonvision.engine.export_runner import Exports
from tritonvision.engine.loaded_models import LoadedModels, Memory, only_for
from tritonvision.engine.quarantine import Quarantine
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.errors import (
    DeadlineExceeded,
    InvalidParameter,
    ModelLoading,
    NotSupported,
    SetupError,
    TritonVisionError,
    UnknownModel,
)
from tritonvision.integrity import check_files
from tritonvision.publication import Manifest, Repository
from tritonvision.results import Delta, Result, SAMPrediction
from tritonvision.server import Embedded
from tritonvision.server.control import Control
from tritonvision.settings import Settings
from tritonvision.tasks import PROMPTABLE, VLM

# Pictures of one request under way at once; more would only queue in Triton.
_CONCURRENT = 8
_RETRIES = 3
# Samples of one Triton request: what the steps' configs allow.
_BATCH = 8
# What an answer is made of, where a model could say megabytes more.
_OUTPUTS = {PROMPTABLE.name: ("masks", "scores", "low_res_masks", "image_size")}
_Batch = tuple[Sequence[codec.Sample], Sequence[Mapping[str, Any]]]


class Engine:
    """Answers questions about pictures from one Triton.

    Args:
        settings: where the repository is, deadlines.
        server: the tritonserver we own, or None to use the one at ``settings.triton_url``.
        exportable: ids of the catalogue that this version can export; None when that is not known.
    """

    def __init__(
        self, settings: Settings, server: Embedded | None = None, exportable: Collection[str] | None = None
    ):  # fmt: skip
        if server is None and settings.triton_url is None:
            raise SetupError("There is no inference server to ask.", hint="Give --triton-url HOST:PORT.")
        self.repository = Repository(settings.repository)
        self.server_id = str(uuid.uuid4())
        self.exportable = exportable
        self._settings = settings
        self._server = server
        self.loaded_models = LoadedModels(settings.max_loaded, settings.memory_budget)
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._quarantine = Quarantine()
        self._exports = Exports(settings) if server is not None and settings.export_missing else None

    async def start(self) -> None:
        """Connect. The server need not answer yet."""
        address = self._server.address if self._server else self._settings.triton_url
        self._client = AsyncTritonClient(address)
        self._control = None if self._server else Control(address)

    async def close(self) -> None:
        """Drop connections and running exports; a server given to us is the giver's to stop."""
        for task in self._loads.values():
            task.cancel()
        if self._exports:
            await self._exports.close()
        await self._client.close()
        if self._control:
            self._control.close()

    async def infer(
        self, name: str, pictures: Sequence[bytes], parameters: Mapping[str, Any], *, wait: bool = True,
        task: str | None = None, regions: Sequence[Sequence[float]] | None = None,
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """The answers of the model called ``name`` about encoded pictures (or ``.npy`` bytes, RGB), in order.

        Args:
            parameters: settings of the model's task, see :mod:`tritonvision.tasks`.
            wait: whether to wait for a model that is not loaded yet; else ModelLoading at once.
            task: the task the caller expects of the model.
            regions: parts of the only picture, each (centre x, centre y, width, height) in pixels: one answer a region.

        Raises:
            UnknownModel, ModelLoading, InvalidParameter, InvalidPicture, DeadlineExceeded, ServerUnavailable, ...
        """
        if regions is None:
            batches = [([{"image": picture}], [parameters]) for picture in pictures]
        else:  # one copy of the picture a batch: an empty sample stands for the one before it
            batches = [
                (
                    [{"image": b"" if i else pictures[0]} for i in range(len(part))],
                    [{**parameters, "region": [float(v) for v in region]} for region in part],
                )
                for part in _parts(regions, _BATCH)
            ]
        return await self._ask_batches(name, batches, parameters, wait=wait, task=task)

    async def ask(
        self, name: str, samples: Sequence[codec.Sample], parameters: Mapping[str, Any], *, role: str = "",
        outputs: Collection[str] = (), wait: bool = True, task: str | None = None,
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """As :meth:`infer`, for an entry point that takes something else than pictures alone.

        Args:
            samples: inputs by name; texts go several at once, everything else one by one.
            role: of the entry point, e.g. ``text``.
            outputs: what is wanted; everything when empty.
        """
        size = _BATCH if "text" in samples[0] else 1
        batches = [(part, [parameters] * len(part)) for part in _parts(samples, size)]
        return await self._ask_batches(name, batches, parameters, wait=wait, task=task, role=role, outputs=outputs)

    async def chat(
        self, name: str, messages: Sequence[Mapping[str, Any]], pictures: Sequence[bytes],
        parameters: Mapping[str, Any], *, wait: bool = True,
    ) -> AsyncIterator[Delta]:  # fmt: skip
        """The pieces of the answer that the model called ``name`` writes. Closing the iterator ends the work in Triton.

        Args:
            messages: ``{"role", "content"}``, the content a list of ``{"type": "text", "text"}`` and
                ``{"type": "image"}``.
            pictures: encoded, in the order of the image parts.
            parameters: settings of :data:`tritonvision.tasks.VLM`.
            wait: as for :meth:`infer`.

        Raises:
            As :meth:`infer`; a process that is lost after the first piece is an error, since nothing is said twice.
        """
        manifest = self._resolve(name, VLM.name)
        for picture in pictures:
            self._quarantine.check(picture)
        request = codec.encode_chat(manifest.triton_name, pictures, messages, parameters)
        with self.loaded_models.using(manifest):
            await self._ensure_loaded(manifest, wait)
            for attempt in range(_RETRIES + 1):
                said = False
                pieces = self._client.stream(
                    request, self._settings.stream_idle_timeout, self._loses(manifest.triton_name)
                )
                try:
                    async for delta in pieces:
                        said = True
                        yield delta
                except TimeoutError as error:
                    raise DeadlineExceeded(
                        hint="Raise TRITONVISION_STREAM_IDLE_TIMEOUT, or send less at once."
                    ) from error
                except grpc.RpcError as error:
                    suspect = pictures[0] if pictures else b""
                    if said or attempt == _RETRIES or not await self._mend(error, manifest, suspect):
                        raise failures.to_error(error) from error
                else:
                    return
                finally:
                    await pieces.aclose()

    async def generate_masks(
        self, name: str, picture: bytes, parameters: Mapping[str, Any], *, wait: bool = True
    ) -> AsyncGenerator[mask_grid.Progress | SAMPrediction, None]:
        """Every object of a picture, as :func:`mask_grid.walk` finds them. Closing the iterator ends the work.

        Args:
            parameters: of :data:`mask_grid.PARAMETERS`.
            wait: as for :meth:`infer`.

        Raises:
            As :meth:`infer`; each step may take as long as an answer that is written may pause.
        """
        manifest = self._resolve(name, PROMPTABLE.name)

        async def ask(sample: codec.Sample, given: Mapping[str, Any], outputs: Collection[str]) -> Result:
            (row,) = await self._ask(manifest, [sample], [given], "", outputs, self._settings.stream_idle_timeout)
            return _result(row, manifest, given)

        with self.loaded_models.using(manifest):
            await self._ensure_loaded(manifest, wait)
            async with aclosing(mask_grid.walk(ask, picture, parameters)) as steps:
                async for step in steps:
                    yield step

    def _loses(self, model: str) -> Callable[[], bool]:
        """Whether a process of the Triton model ``model`` is lost from now on, as far as this process can know."""
        if self._server is None:
            return lambda: False
        server, before = self._server, self._server.deaths_of(model)
        return lambda: server.deaths_of(model) > before

    async def load(self, name: str) -> Manifest:
        """Load the model called ``name`` if it is not loaded."""
        manifest = self._resolve(name)
        await self._ensure_loaded(manifest, wait=True)
        return manifest

    async def unload(self, name: str) -> None:
        """Let a model go, those that ask it, and the steps nobody else uses. Unknown or not loaded: nothing happens."""
        manifest = self.loaded_models.remove(name) or self.loaded_models.remove(catalog.canonical(name))
        if manifest is None:
            return
        for other in self.loaded_models:
            if manifest.id in other.needs:
                await self.unload(other.id)
        for model in only_for(manifest, self.loaded_models):
            await asyncio.to_thread(self._admin.unload, model)

    def loaded(self) -> list[Manifest]:
        """The models loaded now, from memory."""
        return list(self.loaded_models)

    def memory(self) -> Memory:
        """What the loaded models take, and may take."""
        return self.loaded_models.memory()

    def live(self) -> bool:
        """Whether a restart of this process would not help."""
        return True

    def ready(self) -> bool:
        """Whether the inference server answers and no part of it is being replaced."""
        return self._server.healthy() if self._server else self._control.live()

    def why_not_ready(self) -> str:
        """One sentence for people who look at the readiness page."""
        return "" if self.ready() else "The inference server is starting, or a part of it is being replaced."

    @property
    def _admin(self) -> Embedded | Control:
        return self._server or self._control

    def _resolve(self, name: str, task: str | None = None) -> Manifest:
        """The published model called ``name``, when it does ``task``; what is missing may begin to be exported."""
        manifest = self._published(name)
        if task is not None and manifest.task != task:
            raise InvalidParameter(f"'{name}' does {manifest.task}, not {task}.")
        return manifest

    def _published(self, name: str) -> Manifest:
        try:
            return self.repository.resolve(name)
        except UnknownModel:
            known = catalog.canonical(name)
            if known not in catalog.entries():
                raise
            if self.exportable is not None and known not in self.exportable:
                raise NotSupported(
                    f"'{known}' cannot be served by this version yet.",
                    hint="'tritonvision models' lists what can be exported.",
                ) from None
            if self._exports is None:
                raise
            self._exports.begin(known)  # raises ModelLoading while it runs, and the failure after it failed
            return self.repository.resolve(name)

    # ---- loading -----------------------------------------------------------------------------------------------

    async def _ensure_loaded(self, manifest: Manifest, wait: bool) -> None:
        # A manifest read anew is another object: what was published again is loaded again.
        if self.loaded_models.get(manifest.id) is manifest:
            return
        load = self._loads.get(manifest.id)
        if load is None:
            load = self._loads[manifest.id] = asyncio.create_task(self._load(manifest))
            load.add_done_callback(lambda _: self._loads.pop(manifest.id, None))
            load.add_done_callback(lambda task: task.cancelled() or task.exception())  # somebody has to look at it
        if not wait:
            raise ModelLoading(f"Model {manifest.id} is currently loading.", retry_after=2)
        try:
            # Shielded: a caller who leaves does not stop the load that others wait for.
            await asyncio.wait_for(asyncio.shield(load), self._settings.load_timeout)
        except TimeoutError as error:
            raise ModelLoading(f"Model {manifest.id} is still loading.", retry_after=5) from error

    async def _load(self, manifest: Manifest) -> None:
        for need in manifest.needs:
            await self._ensure_loaded(self._resolve(need), wait=True)
        async with self.loaded_models.room_for(manifest, self.unload, self._settings.load_timeout):
            if self._server is not None:  # somebody else's Triton reads files of its own
                await asyncio.to_thread(check_files, self.repository, manifest)
            try:
                await asyncio.gather(*(asyncio.to_thread(self._admin.load, step) for step in manifest.steps))
                await asyncio.gather(*(asyncio.to_thread(self._admin.load, name) for name in manifest.triton_names))
            except TritonVisionError:
                # Somebody else's Triton may load by itself, or not let us: then it only has to have the model.
                if self._control is None or not await asyncio.to_thread(self._control.ready, manifest.triton_name):
                    raise
            self.loaded_models.add(manifest)

    # ---- asking ------------------------------------------------------------------------------------------------

    async def _ask_batches(
        self, name: str, batches: Sequence[_Batch], parameters: Mapping[str, Any], *, wait: bool,
        task: str | None, role: str = "", outputs: Collection[str] = (),
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """Several batches at once, their answers in order. The first failure is the answer; the rest need not go on."""
        manifest = self._resolve(name, task)
        if role not in manifest.roles:
            raise InvalidParameter(f"'{name}' does not take {role}.")
        gate = asyncio.Semaphore(_CONCURRENT)

        async def ask(batch: _Batch) -> list[Result]:
            async with gate:
                rows = await self._ask(manifest, *batch, role, outputs)
            return [_result(row, manifest, parameters) for row in rows]

        with self.loaded_models.using(manifest):
            await self._ensure_loaded(manifest, wait)
            if len(batches) == 1:
                return manifest, await ask(batches[0])
            tasks = [asyncio.create_task(ask(batch)) for batch in batches]
            try:
                answers = await asyncio.gather(*tasks)
            finally:
                for pending in tasks:
                    pending.cancel()
        return manifest, [result for answer in answers for result in answer]

    async def _ask(
        self, manifest: Manifest, samples: Sequence[codec.Sample], parameters: Sequence[Mapping[str, Any]], role: str,
        outputs: Collection[str], deadline: float | None = None,
    ) -> list[dict[str, np.ndarray]]:  # fmt: skip
        model = f"{manifest.triton_name}--{role}" if role else manifest.triton_name
        outputs = outputs or _OUTPUTS.get(manifest.task, ())
        picture = samples[0].get("image", b"")
        if picture:
            self._quarantine.check(picture)
        give_up = time.monotonic() + (deadline or self._settings.deadline)
        for attempt in range(_RETRIES + 1):
            try:
                left = max(give_up - time.monotonic(), 0.001)
                rows = await self._client.call(model, samples, parameters, left, outputs)
            except grpc.RpcError as error:
                if attempt == _RETRIES or time.monotonic() >= give_up or not await self._mend(error, manifest, picture):
                    raise failures.to_error(error) from error
            else:
                if picture:
                    self._quarantine.clear(picture)
                return rows
        raise DeadlineExceeded()

    async def _mend(self, error: grpc.RpcError, manifest: Manifest, picture: bytes) -> bool:
        """Do what makes a second try worthwhile; False when nothing does. Inference has no side effects."""
        if failures.not_loaded(error):  # unloaded behind our back
            self.loaded_models.remove(manifest.id)
            await self._ensure_loaded(manifest, wait=True)
            return True
        if self._server is None or not failures.lost_process(error):
            return False
        deaths = self._server.deaths
        await asyncio.to_thread(self._server.wait_healed, self._settings.deadline)
        if picture and "stub" in (error.details() or "").lower():
            self._quarantine.add(picture, max(deaths, self._server.deaths))
            self._quarantine.check(picture)
        return True


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _result(tensors: Mapping[str, np.ndarray], manifest: Manifest, parameters: Mapping[str, Any]) -> Result:
    return codec.to_result(
        tensors, mask_format=parameters.get("mask_format") or "rle", multi_label=manifest.multi_label,
        map_meaning=manifest.map_meaning,
    )  # fmt: skip
