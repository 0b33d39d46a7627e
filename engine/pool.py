"""Several tritonservers asked as if they were one.

A question goes to the server that is well, has the model as it is wanted, and has the least to do; to another one,
once, where the first is lost or says that it cannot. Requests of one sequence go to one server, which its number tells:
so every facade finds it.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import aclosing
from functools import partial
from itertools import chain
from typing import Any

import grpc

from tritonvision.engine import failures
from tritonvision.engine.endpoints import DNS, GONE, SILENT, Member, Members, endpoints_of, same
from tritonvision.engine.model_times import ModelTimes
from tritonvision.engine.triton_calls import EndpointFigures, TritonCalls
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.errors import ServerUnavailable, SetupError, TritonVisionError
from tritonvision.publication import MANIFEST_PARAMETER, Manifest
from tritonvision.server import Embedded
from tritonvision.server.control import Control
from tritonvision.settings import Settings

_SERIAL_BITS = 40  # of a sequence's number; above them stands the server's tag
# Calls more than the mean that a server may have and still be asked for the sake of what it remembers.
_FAIR = 2
_TOGETHER_SECONDS = 5.0  # that a load on the other servers may take after the first one has the model
_LOST = "The inference server was lost: socket closed."


def _either(lost: Callable[[], bool], gone: asyncio.Future[None]) -> bool:
    return lost() or gone.done()


def connections(
    settings: Settings, server: Embedded | None
) -> tuple[Callable[[], TritonCalls], Embedded | Control | PoolControl]:
    """How to connect for questions, in an event loop, and who loads: our server, or those at ``settings.triton_url``.

    Raises:
        SetupError: there is neither.
        InvalidParameter: the URL holds what is no address.
    """
    if server is not None:
        return partial(AsyncTritonClient, server.address, step_reports=server.step_reports), server
    endpoints = endpoints_of(settings)
    if not endpoints:
        raise SetupError("There is no inference server to ask.", hint="Give --triton-url HOST:PORT.")
    if len(endpoints) == 1 and not endpoints[0].target.startswith(DNS):
        return partial(AsyncTritonClient, endpoints[0]), Control(endpoints[0])
    members = Members(endpoints)
    return partial(Pool, members), PoolControl(members)


class Pool(TritonCalls):
    """Calls to the servers of :class:`Members`, which the pool starts and closes."""

    def __init__(self, members: Members):
        super().__init__()
        self._members = members

    @property
    def width(self) -> int:  # type: ignore[override]
        """Servers that are there."""
        return max(sum(member.state < SILENT for member in self._members), 1)

    async def start(self) -> None:
        """Begin to look at the servers."""
        await self._members.start()

    async def close(self) -> None:
        """Drop the connections."""
        await self._members.close()

    def choose(self, model: str, but: Collection[Member] = (), affinity: bytes = b"") -> Member | None:
        """The server to ask about ``model``, none of ``but``; None where there is none."""
        there = [member for member in self._members if member not in but]
        if not there:
            return None
        ranks = {member: member.rank(model) for member in there}
        best = min(ranks.values())
        equal = [member for member, rank in ranks.items() if rank == best]
        if affinity and len(equal) > 1:
            # The highest digest of picture and server: when a server comes or goes, only its own pictures move.
            first = max(equal, key=lambda member: hashlib.sha256(affinity + member.endpoint.target.encode()).digest())
            if first.running <= sum(member.running for member in equal) / len(equal) + _FAIR:
                return first
        return min(equal, key=lambda member: (member.running, member.last_used))

    def endpoints(self) -> list[EndpointFigures]:
        """As :meth:`TritonCalls.endpoints`."""
        return self._members.figures()

    def new_sequence(self, model: str) -> int:
        """The number of a sequence on the server that has the least to do."""
        member = self.choose(model)
        return (member.tag if member else 0) << _SERIAL_BITS | secrets.randbits(_SERIAL_BITS) or 1

    async def ask(self, method: str, request: Any, timeout: float = 5.0) -> Any:
        """As :meth:`TritonCalls.ask`, from one of the servers."""
        return await self._ask_one_or_another(request.name, lambda member: member.client.ask(method, request, timeout))

    async def forward(self, request: Any, deadline: float, affinity: bytes = b"") -> Any:
        """As :meth:`TritonCalls.forward`; again elsewhere, once, where the server was lost or cannot answer."""
        give_up, model = time.monotonic() + deadline, request.model_name

        def call(member: Member) -> Any:
            return member.client.forward(request, max(give_up - time.monotonic(), 0.001))

        if "sequence_id" in request.parameters:  # what came before is on one server; the first time may have counted
            return await self._once(self._of(request.parameters["sequence_id"].int64_param), model, call)
        return await self._ask_one_or_another(model, call, affinity)

    async def responses(
        self, request: Any, stream_idle_timeout: float, lost: Callable[[], bool] = lambda: False, affinity: bytes = b""
    ) -> AsyncGenerator[Any, None]:
        """As :meth:`TritonCalls.responses`; again elsewhere, once, where the server was lost before the first piece."""
        model, tried = request.model_name, list[Member]()
        while True:
            member = self._chosen(model, tried, affinity)
            tried.append(member)
            began, gone = False, member.gone
            pieces = member.client.responses(request, stream_idle_timeout, partial(_either, lost, gone))
            with member.work():
                try:
                    async with aclosing(pieces):
                        async for piece in pieces:
                            began = True
                            yield piece
                        return
                except grpc.RpcError as error:
                    _note(member, model, error)
                    if began or len(tried) > 1 or not self._elsewhere(error, model, tried):
                        raise

    async def ready(self, model: str = "", timeout: float = 1.0) -> bool:
        """Whether any of the servers answers, or has the model ready."""
        there = [member for member in self._members if member.state < SILENT]
        if not model:
            return bool(there)
        asked = [member.client.ready(model, timeout) for member in there]
        return any(await asyncio.gather(*asked))

    async def times(self, models: Collection[str], timeout: float = 5.0) -> list[ModelTimes]:
        """As :meth:`TritonCalls.times`, of all servers together."""
        return await self._together(lambda client: client.times(models, timeout))

    async def statistics(self, timeout: float = 2.0) -> list[ModelTimes]:
        """As :meth:`TritonCalls.statistics`, of all servers together."""
        return await self._together(lambda client: client.statistics(timeout))

    async def _together(self, ask: Callable[[TritonCalls], Awaitable[list[ModelTimes]]]) -> list[ModelTimes]:
        """The figures of each model, those of all servers that tell them added up. Raises the error where none does."""
        asked = (ask(member.client) for member in self._members if member.state < SILENT)
        told = await asyncio.gather(*asked, return_exceptions=True)
        errors = [one for one in told if isinstance(one, BaseException)]
        if errors and len(errors) == len(told):
            raise errors[0]
        found: dict[str, ModelTimes] = {}
        for one in chain.from_iterable(figures for figures in told if not isinstance(figures, BaseException)):
            found[one.model] = found[one.model].plus(one) if one.model in found else one
        return list(found.values())

    async def _ask_one_or_another(self, model: str, call: Callable[[Member], Any], affinity: bytes = b"") -> Any:
        first = self._chosen(model, (), affinity)
        try:
            return await self._once(first, model, call)
        except grpc.RpcError as error:
            if not self._elsewhere(error, model, [first]):
                raise
        return await self._once(self._chosen(model, [first], affinity), model, call)

    async def _once(self, member: Member, model: str, call: Callable[[Member], Any]) -> Any:
        """``call(member)``, given up as soon as the server is lost and another one is there."""
        gone = member.gone
        with member.work():
            answer = asyncio.ensure_future(call(member))
            try:
                await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
                if not answer.done() and not any(other.state < SILENT for other in self._members):
                    await asyncio.wait((answer,))  # it may be slow, and nobody else would answer
                if not answer.done():
                    raise failures.StreamFailure(_LOST)
                return answer.result()
            except grpc.RpcError as error:
                _note(member, model, error)
                raise
            finally:
                answer.cancel()

    def _chosen(self, model: str, but: Sequence[Member], affinity: bytes) -> Member:
        member = self.choose(model, but, affinity)
        if member is None:
            raise failures.StreamFailure("failed to connect: no inference server goes by the name that was given.")
        return member

    def _elsewhere(self, error: grpc.RpcError, model: str, tried: Sequence[Member]) -> bool:
        """Whether another server may answer what one has not."""
        other = self.choose(model, tried)
        return other is not None and other.state < GONE and failures.another_may_answer(error)

    def _of(self, sequence: int) -> Member:
        """The server of a sequence. Raises StreamFailure where it is not there any more."""
        for member in self._members:
            if member.tag == sequence >> _SERIAL_BITS:
                return member
        raise failures.StreamFailure("The server of the sequence is not known here any more.")


def _note(member: Member, model: str, error: grpc.RpcError) -> None:
    """Count what a question met, and let the next ones know."""
    member.failures += failures.of_the_server(error)
    missing, dead = failures.not_loaded(error), failures.dead_stub(error)
    if missing or dead or failures.lost_process(error):
        member.failed(model, missing, dead)


class PoolControl:
    """Loads and unloads models on all servers of a pool; for threads, with the methods of Control that loaders call."""

    def __init__(self, members: Members):
        self._members = members
        self._threads = ThreadPoolExecutor(16, thread_name_prefix="loads-of-servers")

    def expect(self, manifest: Manifest) -> None:
        """From now on the model is asked: servers are told apart by whether they have it as this manifest says."""
        self._members.published |= dict.fromkeys(manifest.triton_names, manifest)

    def load(self, model: str) -> None:
        """Load a Triton model on every server that answers; those that come later load it, too.

        It is enough that one has it. Raises the error of the first that failed, where all did.
        """
        self._members.wanted[model] = None
        there = list(self._members)
        loads = {self._threads.submit(self._load_at, m, model) for m in there if m.state < SILENT or len(there) == 1}
        errors: list[BaseException] = []
        pending: set[Future[None]] = loads
        while pending and len(errors) == len(loads) - len(pending):
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            errors += [error for error in (one.exception() for one in done) if error is not None]
        if len(errors) < len(loads):
            wait(pending, timeout=_TOGETHER_SECONDS)
            return
        self._members.wanted.pop(model, None)
        raise errors[0] if errors else ServerUnavailable("No inference server can be reached.", retry_after=2)

    def ready(self, model: str) -> bool:
        """Whether any server has the model ready. Raises ServerUnavailable where none answers."""
        return any(self._everywhere(lambda member: member.control.ready(model)))

    def unload(self, model: str) -> None:
        """Begin to unload a Triton model everywhere. Raises ServerUnavailable where no server answers."""
        self._members.wanted.pop(model, None)
        for member in self._members:
            member.models.pop(model, None)
        self._everywhere(lambda member: member.control.unload(model))

    def close(self) -> None:
        """Give up running loads; the connections are the pool's."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _load_at(self, member: Member, model: str) -> None:
        try:
            member.control.load(model)
        except TritonVisionError:
            if not member.control.ready(model):  # it may load by itself, or refuse to
                raise
        if model in self._members.published:
            told = member.control.parameter(model, MANIFEST_PARAMETER)
            member.models[model] = same(told, self._members.published[model])

    def _everywhere(self, do: Callable[[Member], Any]) -> list[Any]:
        """What ``do`` gives of each server that answers. Raises the first error where all fail."""
        futures = [self._threads.submit(do, member) for member in self._members if member.state < SILENT]
        wait(futures)
        errors = [error for error in (future.exception() for future in futures) if error is not None]
        if len(errors) == len(futures):
            raise errors[0] if errors else ServerUnavailable("No inference server can be reached.", retry_after=2)
        return [future.result() for future in futures if future.exception() is None]
