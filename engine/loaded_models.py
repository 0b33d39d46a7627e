"""Which models are loaded, which have running requests, how much memory they take, and which is evicted next."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from tritonvision import machine
from tritonvision.engine.plans import PlanBuild
from tritonvision.errors import NoRoom, Overloaded
from tritonvision.publication import Manifest

# onnxruntime holds 1.2 times a graph after loading's free memory is returned to the system, and working memory while it
# runs; a Python process of the server takes 40 to 90 MB by itself.
_PER_GRAPH_BYTE = 1.5
_PER_PROCESS = 60 * 2**20


def footprint(manifest: Manifest) -> int:
    """Estimated bytes of a loaded model: its networks, as they run on this machine, and its own processes."""
    variant, tuned = machine.choice(manifest).variant, machine.tuning_here(manifest)
    if tuned is not None:
        return int(_PER_GRAPH_BYTE * tuned.graph_bytes) + _PER_PROCESS * tuned.processes
    graph_bytes = (variant.graph_bytes if variant else 0) or manifest.graph_bytes
    return int(_PER_GRAPH_BYTE * graph_bytes) + _PER_PROCESS * manifest.processes


@dataclass(frozen=True)
class Served:
    """How the networks of a loaded model run.

    Attributes:
        variant: its name.
        why_not: why that is not the one that the manifest names: a sentence, empty where it is.
    """

    variant: str
    why_not: str = ""


class LoadedModels:
    """The loaded models, least recently used first.

    Args:
        most: how many may be loaded, or None for any number.
        budget: limit of their estimated bytes together, or None.
        unload: unloads Triton models, in this order.

    Attributes:
        plan_builds: tells which TensorRT plans are being built, or were; nobody builds any by default.
    """

    def __init__(
        self, most: int | None, budget: int | None, unload: Callable[[Sequence[str]], Awaitable[None]]
    ):  # fmt: skip
        self.most, self.budget, self._unload = most, budget, unload
        self.plan_builds: Callable[[], Mapping[str, PlanBuild]] = dict
        self._evicted = 0
        self._refused: dict[str, tuple[Manifest, str]] = {}
        self._loaded: dict[str, Manifest] = {}
        self._served: dict[str, Served] = {}
        self._last_used: dict[str, float] = {}
        self._coming: dict[str, Manifest] = {}
        self._busy: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._waiting = 0

    def __iter__(self) -> Iterator[Manifest]:
        return iter(list(self._loaded.values()))

    def get(self, model_id: str) -> Manifest | None:
        """The loaded model with this id."""
        return self._loaded.get(model_id)

    def memory(self) -> Memory:
        """What they take, when they were used, and the limits."""
        reckoned = {model_id: footprint(manifest) for model_id, manifest in self._loaded.items()}
        return Memory(
            reckoned, dict(self._last_used), self.most, self.budget, self._evicted,
            {model_id: why for model_id, (_, why) in self._refused.items()}, dict(self._served), self.plan_builds(),
        )  # fmt: skip

    def add(self, manifest: Manifest, served: Served | None = None) -> None:
        """Record it as loaded; ``served`` tells how its networks run, None where that is not known."""
        self._refused.pop(manifest.id, None)
        self._loaded[manifest.id] = manifest
        self._served.pop(manifest.id, None)
        if served is not None:
            self._served[manifest.id] = served
        self._touch(manifest.id)

    def note_refused(self, manifest: Manifest, why: str) -> None:
        """It may not serve, until it is published again or loads after all.

        Args:
            why: a sentence.
        """
        self._refused[manifest.id] = manifest, why

    def why_refused(self, manifest: Manifest | None) -> str:
        """The sentence why it may not serve as it is published now, or empty."""
        refused, why = self._refused.get(manifest.id, (None, "")) if manifest else (None, "")
        return why if refused is manifest else ""

    async def refuse(self, manifest: Manifest, why: str) -> None:
        """It was loaded and may not serve: it goes, and what asks it or what it stood in the place of goes, too.

        Args:
            why: a sentence.
        """
        self.note_refused(manifest, why)
        async with self._changed:
            self._loaded[manifest.id] = manifest
            self._coming.pop(manifest.id, None)
            await self._leave(manifest.id)

    async def leave(self, model_id: str) -> None:
        """Unload a model, the models that depend on it, and steps no other model uses. Not loaded: nothing happens."""
        async with self._changed:
            await self._leave(model_id)

    def forget(self, model_id: str) -> Manifest | None:
        """Record it as not loaded, also before it is unloaded."""
        self._last_used.pop(model_id, None)
        self._served.pop(model_id, None)
        return self._loaded.pop(model_id, None)

    @contextmanager
    def using(self, manifest: Manifest) -> Iterator[None]:
        """Within the block a request of ``manifest`` runs: it and what it depends on are not evicted."""
        ids = (manifest.id, *manifest.needs)
        self._busy.update(ids)
        try:
            yield
        finally:
            self._busy.subtract(ids)
            for model_id in ids:
                if model_id in self._loaded:
                    self._touch(model_id)
            if self._waiting and not self._busy[manifest.id]:
                task = asyncio.ensure_future(self._announce())
                task.add_done_callback(lambda done: done.cancelled() or done.exception())

    @asynccontextmanager
    async def room_for(self, manifest: Manifest, wait_timeout: float) -> AsyncIterator[None]:
        """Within the block ``manifest`` may be loaded: others were evicted, least recently used first.

        Args:
            wait_timeout: seconds to wait while every model that could be evicted has running requests.

        Raises:
            NoRoom: it exceeds the budget alone.
            Overloaded: no model could be evicted in time.
        """
        if self.budget is not None and footprint(manifest) > self.budget:
            raise NoRoom(
                f"'{manifest.id}' is reckoned at {footprint(manifest) / 1e6:.0f} MB, the memory budget is "
                f"{self.budget / 1e6:.0f} MB.",
                hint="Raise --memory-budget, or the memory limit of the container.",
            )
        give_up = time.monotonic() + wait_timeout
        async with self._changed:
            while not self._fits(manifest):
                victim = self._victim(manifest)
                if victim is not None:
                    self._evicted += 1
                    await self._leave(victim, manifest)
                    continue
                self._waiting += 1
                try:
                    await asyncio.wait_for(self._changed.wait(), max(give_up - time.monotonic(), 0.001))
                except TimeoutError:
                    raise Overloaded(
                        f"There is no room for '{manifest.id}': every loaded model is answering.", retry_after=2
                    ) from None
                finally:
                    self._waiting -= 1
            self._coming[manifest.id] = manifest
        try:
            yield
        finally:
            self._coming.pop(manifest.id, None)
            await self._announce()

    async def _leave(self, model_id: str, follower: Manifest | None = None) -> None:
        """As :meth:`leave`, with the lock held, so that the decision holds until it is carried out.

        Args:
            follower: the model that will be loaded next; steps that it shares are kept.
        """
        manifest = self.forget(model_id)
        if manifest is None:
            return
        for other in self:
            if manifest.id in other.needs:
                await self._leave(other.id, follower)
        staying = [*self._loaded.values(), *self._coming.values()]
        await self._unload(only_for(manifest, [*staying, follower] if follower else staying))

    def _fits(self, manifest: Manifest) -> bool:
        others = {**self._loaded, **self._coming}
        others.pop(manifest.id, None)
        if self.most is not None and len(others) >= self.most:
            return False
        return self.budget is None or sum(map(footprint, others.values())) + footprint(manifest) <= self.budget

    def _victim(self, manifest: Manifest) -> str | None:
        """The least recently used model without running requests on which no loaded model depends."""
        held = set(manifest.needs)
        for other in (*self._loaded.values(), *self._coming.values()):
            held.update(other.needs)
        free = [m for m in self._loaded if not self._busy[m] and m not in held and m != manifest.id]
        return min(free, key=lambda m: self._last_used[m], default=None)

    def _touch(self, model_id: str) -> None:
        self._last_used[model_id] = time.time()

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def only_for(manifest: Manifest, staying: Iterable[Manifest]) -> list[str]:
    """Triton names of what no other loaded model uses once ``manifest`` is unloaded, its entry points first."""
    used = {step for other in staying for step in other.steps}
    return [*manifest.triton_names, *(step for step in manifest.steps if step not in used)]


@dataclass(frozen=True)
class Memory:
    """What the loaded models take, and may take.

    Attributes:
        reckoned: bytes of each loaded model by id, see :func:`footprint`.
        last_used: seconds since the epoch, by id.
        most, budget: the limits, or None.
        evicted: how many models were evicted since the start.
        refused: models that may not serve, for their files or what they answered, a sentence each, by id.
        served: how the networks of each loaded model run, by id; of those that somebody else's server runs, nothing.
        plan_builds: how far the TensorRT plans of models are that are built here, by id.
    """

    reckoned: Mapping[str, int] = field(default_factory=dict)
    last_used: Mapping[str, float] = field(default_factory=dict)
    most: int | None = None
    budget: int | None = None
    evicted: int = 0
    refused: Mapping[str, str] = field(default_factory=dict)
    served: Mapping[str, Served] = field(default_factory=dict)
    plan_builds: Mapping[str, PlanBuild] = field(default_factory=dict)
