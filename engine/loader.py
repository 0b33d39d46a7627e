"""Loads models into Triton, once for all concurrent requests, and unloads them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tritonvision import catalog
from tritonvision.engine.loaded_models import LoadedModels
from tritonvision.errors import ModelLoading, ServerUnavailable, TritonVisionError
from tritonvision.integrity import check_files
from tritonvision.publication import Manifest, Repository
from tritonvision.server import Embedded
from tritonvision.server.control import Control
from tritonvision.settings import Settings

T = TypeVar("T")
# Admin calls at once. They wait in threads of their own: a load takes seconds to minutes, and readiness, pictures and
# answers of other models must not wait behind it.
_THREADS = 8
_RETRIES = 3
# Seconds that a caller with ``wait=False`` still waits for a load that replaces a loaded model.
_RELOAD_SECONDS = 5.0


class Loader:
    """Loads and unloads models, and knows which are loaded.

    Args:
        admin: the tritonserver we own, or the admin side of somebody else's.
        resolve: the published model of a public id, for the models that another one needs.

    Attributes:
        loaded_models: what is loaded now.
    """

    def __init__(self, settings: Settings, admin: Embedded | Control, resolve: Callable[[str], Manifest]):
        self._settings, self._admin, self._resolve = settings, admin, resolve
        self.loaded_models = LoadedModels(settings.max_loaded, settings.memory_budget, self._unload_steps)
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="model-loads")

    def close(self) -> None:
        """Give up the loads that others wait for; the connection to somebody else's admin side ends."""
        for task in self._loads.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if isinstance(self._admin, Control):
            self._admin.close()

    async def ensure(self, manifest: Manifest, wait: bool = True) -> None:
        """Return once the model is loaded.

        Args:
            wait: whether to wait for a model that is not loaded yet; else ModelLoading at once. For a loaded one that
                was published again every caller waits a little before ModelLoading.

        Raises:
            ModelLoading, NoRoom, Overloaded, BrokenModel, ServerUnavailable, or the error of a step.
        """
        # Publishing again makes a new manifest object, and the model is loaded again.
        loaded = self.loaded_models.get(manifest.id)
        if loaded is manifest:
            return
        load = self._loads.get(manifest.id)
        if load is None:
            load = self._loads[manifest.id] = asyncio.create_task(self._load(manifest))
            load.add_done_callback(lambda _: self._loads.pop(manifest.id, None))
            # reading the exception marks it as retrieved, so that asyncio does not log it
            load.add_done_callback(lambda task: task.cancelled() or task.exception())
        if not wait and loaded is None:
            raise ModelLoading(f"Model {manifest.id} is currently loading.", retry_after=2)
        seconds = self._settings.load_timeout if wait else min(self._settings.load_timeout, _RELOAD_SECONDS)
        try:
            # Shielded: a cancelled caller does not stop the load that others wait for.
            await asyncio.wait_for(asyncio.shield(load), seconds)
        except TimeoutError as error:
            raise ModelLoading(f"Model {manifest.id} is still loading.", retry_after=5) from error

    async def unload(self, name: str) -> None:
        """Unload a model, the models that depend on it, and steps no other model uses. Not loaded: nothing happens."""
        known = name if self.loaded_models.get(name) else catalog.canonical(name)
        await self.loaded_models.leave(known)

    async def healed(self, seconds: float) -> None:
        """Wait until the supervisor has checked our server and replaced lost processes, ``seconds`` at most."""
        if not isinstance(self._admin, Embedded):  # nothing is known of the processes of somebody else's
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(self._admin.healing()), seconds)

    async def _load(self, manifest: Manifest) -> None:
        for need in manifest.needs:
            await self.ensure(self._resolve(need))
        async with self.loaded_models.room_for(manifest, self._settings.load_timeout):
            if isinstance(self._admin, Embedded):  # a Triton that we did not start reads files of its own
                repository = Repository(self._settings.repository)
                await asyncio.get_running_loop().run_in_executor(self._threads, check_files, repository, manifest)
            try:
                await asyncio.gather(*(self._administer(self._admin.load, step) for step in manifest.steps))
                await asyncio.gather(*(self._administer(self._admin.load, name) for name in manifest.triton_names))
            except TritonVisionError:
                # A Triton that we did not start may load by itself or refuse to: it is enough that the model is ready.
                admin = self._admin
                if isinstance(admin, Embedded) or not await self._administer(admin.ready, manifest.triton_name):
                    raise
            self.loaded_models.add(manifest)

    async def _unload_steps(self, models: Sequence[str]) -> None:
        for model in models:
            await self._administer(self._admin.unload, model)

    async def _administer(self, do: Callable[[str], T], model: str) -> T:
        """``do(model)`` in a thread; again when our server was restarted under it."""
        for attempt in range(_RETRIES + 1):
            starts = self._starts()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, do, model)
            except ServerUnavailable:
                if starts is None or attempt == _RETRIES:
                    raise
                await self.healed(self._settings.load_timeout)
                if self._starts() == starts:
                    raise
        raise AssertionError("unreachable")

    def _starts(self) -> int | None:
        return self._admin.starts if isinstance(self._admin, Embedded) else None
