"""Loads models into Triton, once for all concurrent requests, and unloads them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from functools import partial
from typing import TypeVar

from tritonvision import catalog, machine, memory, stages
from tritonvision.cgroups import cores
from tritonvision.engine.golden_check import GoldenCheck, Verdict
from tritonvision.engine.loaded_models import LoadedModels, Served
from tritonvision.engine.plans import PlanBuilds
from tritonvision.engine.pool import PoolControl
from tritonvision.engine.triton_calls import TritonCalls
from tritonvision.errors import (
    BrokenModel,
    ModelLoading,
    NotSupported,
    ServerUnavailable,
    SetupError,
    TritonVisionError,
)
from tritonvision.integrity import check_files
from tritonvision.publication import Manifest, Repository
from tritonvision.server import Embedded
from tritonvision.server.control import Control
from tritonvision.server.fusion import Fusion, fusion, is_fused
from tritonvision.settings import Settings
from tritonvision.variants import Variant

log = logging.getLogger(__name__)

T = TypeVar("T")
# Admin calls at once. They wait in threads of their own: a load takes seconds to minutes, and readiness, pictures and
# answers of other models must not wait behind it.
_THREADS = 8
_RETRIES = 3
# Seconds that a caller with ``wait=False`` still waits for a load that replaces a loaded model.
_RELOAD_SECONDS = 5.0
# What says that a variant does not run here, and leaves what was exported to be tried.
_VARIANT_FAILED = (BrokenModel, SetupError, ServerUnavailable)
# Seconds that an answer to a golden question may take. Callers are told to come again meanwhile: an answer that comes
# late, of a large network on busy cores, is not a wrong one. A process that hangs is ended by its heartbeat.
_LATEST_ANSWER = 600.0
# Seconds until a model that answered its golden questions wrongly is tried again, if it was not published anew.
_REFUSED_SECONDS = 30.0


class Loader:
    """Loads and unloads models, and knows which are loaded.

    Args:
        admin: the tritonserver we own, or the admin side of somebody else's, of one or of several.
        resolve: the published model of a public id, for the models that another one needs.

    Attributes:
        loaded_models: what is loaded now.
        plans: TensorRT plans that are built for this machine, while ONNX Runtime answers.
        golden: asks each model its golden questions before it is let at; None where the server is not ours.
    """

    def __init__(self, settings: Settings, admin: Embedded | Control | PoolControl, resolve: Callable[[str], Manifest]):
        self._settings, self._admin, self._resolve = settings, admin, resolve
        budget: int | None = settings.memory_budget
        if budget is None and isinstance(admin, Embedded):  # somebody else's has a container of its own
            budget = memory.budget()
        self.loaded_models = LoadedModels(settings.max_loaded, budget, self._unload_steps)
        self.plans = PlanBuilds(settings.repository)
        self.loaded_models.plan_builds = lambda: self.plans.builds
        self.golden: GoldenCheck | None = None
        self._verdicts: dict[str, tuple[Manifest, Verdict, float]] = {}  # of models that were refused, and when
        self._loads: dict[str, tuple[Manifest, asyncio.Task[None]]] = {}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="model-loads")

    async def close(self) -> None:
        """Give up the loads that others wait for and the plans that are being built; the connection to somebody else's
        admin side ends.
        """
        for _, task in self._loads.values():
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if not isinstance(self._admin, Embedded):
            self._admin.close()
        await self.plans.close()

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
        running = self._loads.get(manifest.id) or self._begin(manifest)
        if not wait and loaded is None:
            raise ModelLoading(f"Model {manifest.id} is currently loading.", retry_after=2)
        seconds = self._settings.load_timeout
        if not wait and (loaded is None or loaded.without_variants() != manifest.without_variants()):
            seconds = min(seconds, _RELOAD_SECONDS)  # another variant of the same model may take as long as it needs
        try:
            with stages.stage("load"):
                await asyncio.wait_for(self._loaded(manifest, *running), seconds)
        except TimeoutError as error:
            raise ModelLoading(f"Model {manifest.id} is still loading.", retry_after=5) from error

    def _begin(self, manifest: Manifest) -> tuple[Manifest, asyncio.Task[None]]:
        """Let a load run, unless the model was refused a moment ago, which raises BrokenModel."""
        self._refuse_again(manifest)
        # a context of its own: others wait for it, too, so its calls are no stages of this request
        load = asyncio.create_task(self._load(manifest), context=Context())
        self._loads[manifest.id] = manifest, load
        load.add_done_callback(lambda _: self._loads.pop(manifest.id, None))
        # reading the exception marks it as retrieved, so that asyncio does not log it
        load.add_done_callback(lambda task: task.cancelled() or task.exception())
        return manifest, load

    async def _loaded(self, manifest: Manifest, of: Manifest, load: asyncio.Task[None]) -> None:
        """Wait for ``load``; where that is ``of`` a publication before this one, also for this one's."""
        while of is not manifest and self._is_published(manifest):
            await asyncio.wait((load,))
            of, load = self._loads.get(manifest.id) or self._begin(manifest)
        await asyncio.shield(load)  # a cancelled caller does not stop the load that others wait for

    def _is_published(self, manifest: Manifest) -> bool:
        """Whether nothing else was published in its place meanwhile."""
        try:
            return self._resolve(manifest.id) is manifest
        except TritonVisionError:
            return False

    def _refuse_again(self, manifest: Manifest) -> None:
        """Raise BrokenModel of a model that was refused a moment ago: each try would load it anew."""
        known = self._verdicts.get(manifest.id)
        if known is not None and known[0] is manifest and time.monotonic() < known[2] + _REFUSED_SECONDS:
            raise known[1].refusal()

    def loading(self, model_id: str) -> bool:
        """Whether a load of that model runs."""
        return model_id in self._loads

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
            if isinstance(self._admin, Embedded):
                try:
                    self.loaded_models.add(manifest, await self._load_into_ours(manifest))
                except BrokenModel as error:
                    if not self.loaded_models.why_refused(manifest):
                        self.loaded_models.note_refused(manifest, error.message)
                    raise
            else:
                await self._load_elsewhere(manifest)
                self.loaded_models.add(manifest)

    async def _load_into_ours(self, manifest: Manifest) -> Served:
        """Load the variant that serves, or, where this machine or its files do not let it, what was exported."""
        choice = machine.choice(manifest)
        if choice.variant is not None:
            try:
                await self._load_variant(manifest, choice.variant)
                return Served(choice.variant.name)
            except _VARIANT_FAILED as error:
                log.error("%s does not run as %s: %s", manifest.id, choice.variant.name, error.message)
                choice = machine.Choice(None, error.message)
        await self._load_variant(manifest, None)
        return Served(manifest.base_variant, choice.why_not)

    async def _load_variant(self, manifest: Manifest, variant: Variant | None) -> None:
        """Load a model as one of its variants, None as it was exported, and ask it its golden questions."""
        assert isinstance(self._admin, Embedded)
        repository, loop = Repository(self._settings.repository), asyncio.get_running_loop()
        if variant is not None and variant.engine == "tensorrt":
            self.plans.require(manifest, variant)
        await loop.run_in_executor(self._threads, check_files, repository, manifest, variant)
        name = machine.config_name(manifest, variant)
        fused = Fusion({})
        if self._settings.fusion and self._admin.own_backends:
            fused = await loop.run_in_executor(self._threads, fusion, repository.root, manifest, name, cores())
        steps = [step for step in manifest.steps if step not in fused.left_out]
        order: Sequence[Sequence[str]] = (steps, manifest.triton_names)
        if any(is_fused(self._admin.configs.get(one)) and one not in fused.configs for one in manifest.triton_names):
            # the ensembles ask the network for their whole answers until they are loaded with steps of their own
            networks = [step for step in steps if stages.kind_of(step) == "network"]
            order = ([step for step in steps if step not in networks], manifest.triton_names, networks)
        for together in order:
            loads = (partial(self._admin.load, config_name=name, config=fused.configs.get(one)) for one in together)
            await asyncio.gather(*map(self._administer, loads, together))
        await self._ask_golden(manifest, variant)

    async def _load_elsewhere(self, manifest: Manifest) -> None:
        """A Triton that we did not start reads files of its own, and chooses among its configs itself."""
        assert not isinstance(self._admin, Embedded)
        if isinstance(self._admin, PoolControl):
            self._admin.expect(manifest)
        try:
            for together in (manifest.steps, manifest.triton_names):
                await asyncio.gather(*(self._administer(self._admin.load, name) for name in together))
        except TritonVisionError:
            # It may load by itself or refuse to: it is enough that the model is ready.
            if not await self._administer(self._admin.ready, manifest.triton_name):
                raise

    def ask_golden(self, client: TritonCalls) -> None:
        """From now on ask each loaded model its golden questions, if the server is ours: others answer for theirs."""
        if isinstance(self._admin, Embedded):
            self.golden = GoldenCheck(
                client, self._settings.repository, _LATEST_ANSWER, self._threads, self._admin.instances,
                self._admin.loses, self._load_steps,
            )  # fmt: skip

    async def verify(self, manifest: Manifest) -> Verdict:
        """Whether the model answers as it did when it was published, stage by stage; it is loaded for it.

        Raises:
            NotSupported: the inference server is somebody else's.
            NoRoom, ModelLoading, ...: as :meth:`ensure`, but for a model that does not pass.
        """
        if self.golden is None:
            raise NotSupported("Models of somebody else's inference server are not verified.")
        try:
            await self.ensure(manifest)
        except BrokenModel:
            if manifest.id not in self._verdicts:
                raise
            return self._verdicts[manifest.id][1]
        served = self.loaded_models.memory().served.get(manifest.id)
        variant = next((v for v in manifest.variants if served and v.name == served.variant), None)
        with self.loaded_models.using(manifest):
            return await self.golden.ask(manifest, variant, every_stage=True)

    async def _ask_golden(self, manifest: Manifest, variant: Variant | None) -> None:
        """Ask a model its golden questions. Raises BrokenModel where it answers otherwise; one that does so as it was
        exported goes.
        """
        if self.golden is None:
            return
        with self.loaded_models.using(manifest):
            verdict = await self.golden.ask(manifest, variant)
        self._verdicts.pop(manifest.id, None)
        if verdict.passed:
            return
        if variant is None:  # else what was exported is tried, and may do
            self._verdicts[manifest.id] = manifest, verdict, time.monotonic()
            why = f"What differs is its {verdict.blamed}: {verdict.why.rstrip('.')}."
            await self.loaded_models.refuse(manifest, why)
        raise verdict.refusal()

    async def _load_steps(self, manifest: Manifest) -> None:
        """Give each step of a model processes of its own that has none; they go with the model."""
        assert isinstance(self._admin, Embedded)
        without = [step for step in manifest.steps if not self._admin.instances(step)]
        await asyncio.gather(*(self._administer(self._admin.load, step) for step in without))

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
