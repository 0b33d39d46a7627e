"""The data plane every dialect shares: a name and pictures in, result types out.

It loads a model on the first request that names it, asks Triton with a deadline, retries what met a dead process, and
cancels in Triton what a caller has abandoned.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from tritonvision import catalog
from tritonvision.client import codec, failures
from tritonvision.client.exports import Exports
from tritonvision.client.suspects import Suspects
from tritonvision.client.triton import AsyncTritonClient
from tritonvision.errors import (
    DeadlineExceeded,
    InvalidParameter,
    ModelLoading,
    SetupError,
    TritonVisionError,
    UnknownModel,
)
from tritonvision.publication import Manifest, Repository
from tritonvision.results import Result
from tritonvision.server import Embedded
from tritonvision.server.control import Control
from tritonvision.settings import Settings

# Pictures of one request under way at once; more would only queue in Triton.
_CONCURRENT = 8
_RETRIES = 3


class Engine:
    """Answers questions about pictures from one Triton.

    Args:
        settings: where the repository is, deadlines.
        server: the tritonserver we own, or None to use the one at ``settings.triton_url``.
    """

    def __init__(self, settings: Settings, server: Embedded | None = None):
        if server is None and settings.triton_url is None:
            raise SetupError("There is no inference server to ask.", hint="Give --triton-url HOST:PORT.")
        self.repository = Repository(settings.repository)
        self.server_id = str(uuid.uuid4())
        self._settings = settings
        self._server = server
        self._loaded: dict[str, Manifest] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._suspects = Suspects()
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
        task: str | None = None,
    ) -> tuple[Manifest, list[Result]]:  # fmt: skip
        """The answers of the model called ``name`` about encoded pictures (or ``.npy`` bytes, RGB), in order.

        Args:
            parameters: settings of the model's task, see :mod:`tritonvision.tasks`.
            wait: whether to wait for a model that is not loaded yet; else ModelLoading at once.
            task: the task the caller expects of the model.

        Raises:
            UnknownModel, ModelLoading, InvalidParameter, InvalidPicture, DeadlineExceeded, ServerUnavailable, ...
        """
        manifest = self._resolve(name)
        if task is not None and manifest.task != task:
            raise InvalidParameter(f"'{name}' does {manifest.task}, not {task}.")
        await self._ensure_loaded(manifest, wait)
        if len(pictures) == 1:
            return manifest, [await self._ask(manifest, pictures[0], parameters)]
        return manifest, await self._ask_all(manifest, pictures, parameters)

    async def load(self, name: str) -> Manifest:
        """Load the model called ``name`` if it is not loaded."""
        manifest = self._resolve(name)
        await self._ensure_loaded(manifest, wait=True)
        return manifest

    async def unload(self, name: str) -> None:
        """Let a model go, and the steps nobody else uses. Unknown or not loaded: nothing happens."""
        wanted = catalog.canonical(name)
        manifest = self._loaded.pop(name, None) or self._loaded.pop(wanted, None)
        if manifest is None:
            return
        still_used = {step for other in self._loaded.values() for step in other.steps}
        for model in (manifest.triton_name, *(step for step in manifest.steps if step not in still_used)):
            await asyncio.to_thread(self._admin.unload, model)

    def loaded(self) -> list[Manifest]:
        """The models loaded now, from memory."""
        return list(self._loaded.values())

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

    def _resolve(self, name: str) -> Manifest:
        try:
            return self.repository.resolve(name)
        except UnknownModel:
            known = catalog.canonical(name)
            if self._exports is None or known not in catalog.entries():
                raise
            self._exports.begin(known)  # raises ModelLoading while it runs, and the failure after it failed
            return self.repository.resolve(name)

    # ---- loading -----------------------------------------------------------------------------------------------

    async def _ensure_loaded(self, manifest: Manifest, wait: bool) -> None:
        # A manifest read anew is another object: what was published again is loaded again.
        if self._loaded.get(manifest.id) is manifest:
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
        try:
            await asyncio.gather(*(asyncio.to_thread(self._admin.load, step) for step in manifest.steps))
            await asyncio.to_thread(self._admin.load, manifest.triton_name)
        except TritonVisionError:
            # Somebody else's Triton may load by itself, or not let us: then it only has to have the model.
            if self._control is None or not await asyncio.to_thread(self._control.ready, manifest.triton_name):
                raise
        self._loaded[manifest.id] = manifest

    # ---- asking ------------------------------------------------------------------------------------------------

    async def _ask_all(
        self, manifest: Manifest, pictures: Sequence[bytes], parameters: Mapping[str, Any]
    ) -> list[Result]:
        gate = asyncio.Semaphore(_CONCURRENT)

        async def ask(picture: bytes) -> Result:
            async with gate:
                return await self._ask(manifest, picture, parameters)

        tasks = [asyncio.create_task(ask(picture)) for picture in pictures]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:  # the first failure is the answer; the rest need not go on
                task.cancel()

    async def _ask(self, manifest: Manifest, picture: bytes, parameters: Mapping[str, Any]) -> Result:
        self._suspects.check(picture)
        give_up = time.monotonic() + self._settings.deadline
        for attempt in range(_RETRIES + 1):
            try:
                left = max(give_up - time.monotonic(), 0.001)
                tensors = await self._client.call(manifest.id, picture, dict(parameters), left)
            except grpc.RpcError as error:
                if attempt == _RETRIES or time.monotonic() >= give_up or not await self._mend(error, manifest, picture):
                    raise failures.to_error(error) from error
            else:
                self._suspects.clear(picture)
                return codec.to_result(tensors, manifest.multi_label)
        raise DeadlineExceeded()

    async def _mend(self, error: grpc.RpcError, manifest: Manifest, picture: bytes) -> bool:
        """Do what makes a second try worthwhile; False when nothing does. Inference has no side effects."""
        if failures.not_loaded(error):  # unloaded behind our back
            self._loaded.pop(manifest.id, None)
            await self._ensure_loaded(manifest, wait=True)
            return True
        if self._server is None or not failures.lost_process(error):
            return False
        deaths = self._server.deaths
        await asyncio.to_thread(self._server.wait_healed, self._settings.deadline)
        if "stub" in (error.details() or "").lower():
            self._suspects.add(picture, max(deaths, self._server.deaths))
            self._suspects.check(picture)
        return True
