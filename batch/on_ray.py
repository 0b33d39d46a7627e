"""The driver of a batch on a Ray cluster: workers are actors, each with a tritonserver of its own.

A worker that dies, alone or with its node, is started again by Ray where there is room; its shards go to the others at
once. The driver keeps nothing that the folder does not hold, so another driver goes on after it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from tritonvision.batch.folder import Folder
from tritonvision.batch.job import Job, Plan
from tritonvision.batch.local import SHARDS
from tritonvision.batch.parts import Done
from tritonvision.batch.worker import Server, Worker, ask_of, connected
from tritonvision.errors import BY_CODE, SetupError, TritonVisionError

_MOST_LOSSES = 5  # of workers by one shard, or of one worker before it answered anything
_TICK = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """Where the workers run.

    Attributes:
        address: of a Ray cluster; None for the one that Ray's own settings name, or else one on this machine.
        workers: how many; None for one a node.
        cpus, gpus: that Ray sets aside for each.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class _Failure:
    """An error, as a value: Ray would wrap an exception."""

    code: str
    message: str
    hint: str
    retryable: bool

    def error(self) -> TritonVisionError:
        return BY_CODE.get(self.code, TritonVisionError)(self.message, hint=self.hint)


class _Actor:
    """A :class:`Worker` in a process of Ray's."""

    def __init__(self, job: Job, out: str, server: Server):
        self._job, self._out, self._server = job, out, server
        self._worker: Worker | None = None
        self._open = AsyncExitStack()

    async def start(self) -> _Failure | None:
        """Start its tritonserver and load the model."""
        try:
            connection = await self._open.enter_async_context(connected(self._server, log.warning))
            facts = await connection.facts(self._job.model)
            ask = ask_of(connection, facts, self._job)
            self._worker = Worker(self._job, Folder(self._out), self._server, ask, facts)
        except TritonVisionError as error:
            return _failure(error)
        return None

    async def run(self, shard: int, names: list[str]) -> Done | _Failure:
        """Answer a shard."""
        assert self._worker is not None, "it was started"
        try:
            return await self._worker.run(shard, names)
        except TritonVisionError as error:
            return _failure(error)

    async def stop(self) -> None:
        """Stop its tritonserver."""
        await self._open.aclose()


def _failure(error: TritonVisionError) -> _Failure:
    return _Failure(error.code, error.message, error.hint, error.retryable)


def run(
    job: Job, folder: Folder, plan: Plan, todo: Sequence[int], server: Server, cluster: Cluster,
    report: Callable[[Done], None],
) -> None:  # fmt: skip
    """Answer the shards ``todo``. The workers must find the source, the folder and the model repository at the same
    paths or addresses as this process.

    Args:
        report: told each shard that is written.

    Raises:
        SetupError: there is no Ray, a worker cannot work on its machine, or one shard ended its worker again and again.
        ServerUnavailable, ...: the server of a worker could not go on, again and again.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise SetupError("This needs Ray, which is not installed.", hint="pip install 'tritonvision[ray]'") from error
    try:
        ray.init(cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SetupError("No Ray cluster answers.", hint="Name one: --ray-address HOST:PORT") from error
    try:
        _Pool(ray, job, folder, plan, todo, server, cluster, report).run()
    finally:
        ray.shutdown()


class _Pool:
    """The workers, and the calls that they have not answered yet."""

    def __init__(
        self, ray: Any, job: Job, folder: Folder, plan: Plan, todo: Sequence[int], server: Server, cluster: Cluster,
        report: Callable[[Done], None],
    ):  # fmt: skip
        self._ray, self._plan, self._report = ray, plan, report
        self._todo, self._losses = deque(todo), Counter[Any]()
        self._calls: dict[Any, tuple[int, int | None]] = {}  # a reference to worker and shard; to start has none
        self._ready: set[int] = set()  # workers that were started and have not been lost since
        count = cluster.workers or sum(node["Alive"] for node in ray.nodes())
        kind = ray.remote(
            num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_restarts=-1, scheduling_strategy="SPREAD"
        )(_Actor)  # fmt: skip
        self._workers = [kind.remote(job, folder.address, server) for _ in range(min(count, len(todo)))]

    def run(self) -> None:
        """Hand out shards until all are written."""
        for worker in range(len(self._workers)):
            self._start(worker)
        while self._todo or any(shard is not None for _, shard in self._calls.values()):
            done, _ = self._ray.wait(list(self._calls), timeout=_TICK)
            for call in done:
                self._take(call)
            self._hand_out()
        self._stop()

    def _start(self, worker: int) -> None:
        # a call that may be repeated waits while Ray looks for a place to start the actor again
        call = self._workers[worker].start.options(max_task_retries=_MOST_LOSSES).remote()
        self._calls[call] = worker, None

    def _take(self, call: Any) -> None:
        """What a call has ended with."""
        worker, shard = self._calls.pop(call)
        try:
            said = self._ray.get(call)
        except self._ray.exceptions.RayError:  # it died: alone, or with its node
            self._lost(worker, shard, SetupError(_DIED, hint=_DIED_HINT), alive=False)
            return
        if isinstance(said, _Failure):
            if not said.retryable:
                raise said.error()
            self._lost(worker, shard, said.error(), alive=True)
            return
        if shard is None:
            self._ready.add(worker)
        else:
            self._losses[worker] = 0
            self._report(said)

    def _hand_out(self) -> None:
        """Give shards to workers that have room: also to those that had none left when another one was lost."""
        held = Counter(worker for worker, shard in self._calls.values() if shard is not None)
        for _ in range(SHARDS):  # one each, then the second
            for worker in sorted(self._ready, key=lambda each: held[each]):
                if self._todo and held[worker] < SHARDS:
                    shard = self._todo.popleft()
                    self._calls[self._workers[worker].run.remote(shard, self._plan.names(shard))] = worker, shard
                    held[worker] += 1

    def _lost(self, worker: int, shard: int | None, error: TritonVisionError, alive: bool) -> None:
        """What ``worker`` held goes to the others, and it begins anew; raises ``error`` where that is too often."""
        key = worker if shard is None else ("shard", shard)
        self._losses[key] += 1
        if self._losses[key] >= _MOST_LOSSES:
            raise error
        if shard is not None:
            self._todo.append(shard)
        self._ready.discard(worker)
        if (worker, None) not in self._calls.values():
            if alive:  # the process, whose tritonserver is of no use
                self._ray.kill(self._workers[worker], no_restart=False)
            self._start(worker)

    def _stop(self) -> None:
        """End the workers, each with its tritonserver; one that was lost and has no place yet is not waited for."""
        ending = [worker.stop.remote() for number, worker in enumerate(self._workers) if number in self._ready]
        if ending:
            self._ray.wait(ending, num_returns=len(ending), timeout=30)
        for worker in self._workers:
            self._ray.kill(worker)


_DIED = "A part of the batch ended its worker again and again."
_DIED_HINT = "Ray's log tells why; a worker may need more memory."
