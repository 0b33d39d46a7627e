"""The tritonservers that somebody else runs, one or several: who they are, which of them answer, what each has loaded.

A look at each server every second tells whether it is well. Names of DNS are resolved again every few seconds. What a
server lacks of the models that are asked for is loaded there, if it lets us.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import grpc
from tritonclient.grpc import service_pb2 as pb

from tritonvision.endpoint import Endpoint, TlsFiles
from tritonvision.engine.triton_calls import EndpointFigures
from tritonvision.engine.triton_grpc import AsyncTritonClient
from tritonvision.errors import InvalidParameter, TritonVisionError
from tritonvision.publication import MANIFEST_PARAMETER, Manifest
from tritonvision.server.control import Control
from tritonvision.settings import Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at a server, and what one may take
_MODELS_SECONDS = 5.0  # between two looks at the models of a server
_RESOLVE_SECONDS = 5.0
_SICK_SECONDS = 30.0  # a model whose process died there is asked elsewhere for so long
_REFUSED_SECONDS = 30.0  # until a server that could not load a model is asked to load it again
DNS = "dns:///"
# How well a server is, best first.
READY, UNKNOWN, NOT_READY, SILENT, GONE = range(5)
STATES = ("ready", "unknown", "not ready", "silent", "gone")

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


def endpoints_of(settings: Settings) -> list[Endpoint]:
    """The endpoints in ``settings.triton_url``. Raises InvalidParameter where one is no address."""
    files = (settings.triton_authorities, settings.triton_certificate, settings.triton_key)
    tls = TlsFiles(*files) if settings.triton_tls or any(files) else None
    found = []
    for target in filter(None, (part.strip() for part in (settings.triton_url or "").split(","))):
        if not target.startswith("unix:") and _place(target.removeprefix(DNS)) is None:
            raise InvalidParameter(
                f"'{target}' is no address of a tritonserver.",
                hint="Give HOST:PORT, several with commas between them, or dns:///HOST:PORT for all that a name has.",
            )
        found.append(Endpoint(target, settings.triton_token, tls, settings.triton_token_header))
    return list(dict.fromkeys(found))


def _place(text: str) -> tuple[str, int] | None:
    """Host and port of ``host:port`` or ``[host]:port``."""
    host, _, port = text.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    return (host.removeprefix("[").removesuffix("]"), number) if host and 0 < number < 65536 else None


async def addresses_of(host: str, port: int) -> Sequence[str]:
    """gRPC targets of all addresses of a name. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({f"ipv6:[{ip}]:{port}" if ":" in str(ip) else f"ipv4:{ip}:{port}" for *_, (ip, *_) in found})


class Member:
    """One of the servers.

    Attributes:
        tag: 23 bits by which every facade that knows this server's address finds it.
        state: of :data:`STATES`, by number.
        running: calls under way.
        requests, failures: calls that began here, and those that ended with an error of the server's.
        models: names of Triton models that it has ready, and whether as the variant that is wanted.
        gone: done when it answers no more; calls that run there are then given up.
        leaving: DNS does not name it any more; what runs there is finished.
    """

    def __init__(self, endpoint: Endpoint):
        self.endpoint, self.client, self.control = endpoint, AsyncTritonClient(endpoint), Control(endpoint)
        self.tag = int.from_bytes(hashlib.sha256(endpoint.target.encode()).digest()[:3]) >> 1
        self.state, self.running, self.last_used, self.leaving = UNKNOWN, 0, 0.0, False
        self.requests, self.failures = 0, 0
        self.models: dict[str, bool] = {}
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.looked_at_models = 0.0
        self._misses = 0
        self._sick: dict[str, float] = {}
        self._refused: dict[str, float] = {}
        self.repairing: asyncio.Future[bool] | None = None
        self.wake = asyncio.Event()

    @contextmanager
    def work(self) -> Iterator[None]:
        """Around a call."""
        self.running, self.last_used = self.running + 1, time.monotonic()
        self.requests += 1
        try:
            yield
        finally:
            self.running -= 1

    def figures(self) -> EndpointFigures:
        """What it is and was asked."""
        return EndpointFigures(
            self.endpoint.target, self.state == READY, self.requests, self.failures, self.running
        )

    def rank(self, model: str) -> tuple[int, int]:
        """How gladly a question about ``model`` is asked here, the least the most: its state, then what it has."""
        sick = self._sick.get(model, 0.0) > time.monotonic()
        has = self.models.get(model)
        return self.state, 3 if sick else 2 if has is None else 0 if has else 1

    def answered(self, ready: bool) -> None:
        """It answered a look."""
        if self.state >= SILENT:
            log.warning("The tritonserver at %s answers again.", self.endpoint.target)
        if self.gone.done():
            self.gone, self.looked_at_models = asyncio.get_running_loop().create_future(), 0.0
        self._misses, self.state = 0, READY if ready else NOT_READY

    def missed(self, refused: bool) -> None:
        """It did not answer a look: nobody listens there, or it says nothing."""
        self._misses += 1
        if refused or self._misses > 1:
            if self.state != GONE:
                log.warning("The tritonserver at %s does not answer any more.", self.endpoint.target)
            self.state = GONE
            self.models.clear()
            if not self.gone.done():
                self.gone.set_result(None)
        else:
            self.state = SILENT

    def failed(self, model: str, missing: bool, dead: bool) -> None:
        """A call failed here: the model is not there, its process is dead, or the server went."""
        if missing:
            self.models.pop(model, None)
            self.looked_at_models = 0.0
        elif dead:
            self._sick[model] = time.monotonic() + _SICK_SECONDS
        else:
            self.state = max(self.state, SILENT)
        self.wake.set()

    def load(self, model: str) -> bool:
        """Load a Triton model here, unless that failed a moment ago, which is False; for threads. Raises as Control."""
        if time.monotonic() < self._refused.get(model, 0.0):
            return False
        try:
            self.control.load(model)
        except TritonVisionError:
            self._refused[model] = time.monotonic() + _REFUSED_SECONDS
            raise
        return True

    async def close(self) -> None:
        """Drop the connections."""
        if self.repairing is not None:
            self.repairing.cancel()
        self.control.close()
        await self.client.close()


class Members:
    """The servers behind some endpoints.

    Args:
        endpoints: as they were given; those of DNS stand for all addresses of their name.
        resolve: the targets that a host and port have now; raises OSError.

    Attributes:
        wanted: Triton models that are to be loaded on every server, in the order of loading.
        published: of those that are asked themselves, the manifest on this side.
    """

    def __init__(self, endpoints: Sequence[Endpoint], resolve: Resolve = addresses_of):
        self._endpoints, self._resolve = endpoints, resolve
        self._members: dict[str, Member] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._resolving: asyncio.Task[None] | None = None
        self._threads = ThreadPoolExecutor(8, thread_name_prefix="repairs")
        self.wanted: dict[str, None] = {}
        self.published: dict[str, Manifest] = {}

    def __iter__(self) -> Iterator[Member]:
        """Those that may get new work."""
        return iter([member for member in list(self._members.values()) if not member.leaving])

    def figures(self) -> list[EndpointFigures]:
        """Of each of them, of those too that finish what they have before they are let go."""
        return [member.figures() for member in self._members.values()]

    async def start(self) -> None:
        """Find out who there is, and begin to look at them. None of them need answer."""
        await self._update()
        if any(endpoint.target.startswith(DNS) for endpoint in self._endpoints):
            self._resolving = asyncio.create_task(self._keep_resolving())
        await asyncio.gather(*(self._look(member) for member in self))

    async def close(self) -> None:
        """End the looks and the connections."""
        tasks = [*self._looks.values(), *([self._resolving] if self._resolving else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        for member in self._members.values():
            await member.close()

    # ---- who there is --------------------------------------------------------------------------------------------

    async def _keep_resolving(self) -> None:
        while True:
            await asyncio.sleep(_RESOLVE_SECONDS)
            try:
                await self._update()
            except Exception:  # the boundary of the task, as of the looks
                log.exception("The tritonservers could not be listed again.")

    async def _update(self) -> None:
        """Take in who is new, and let go who is not named any more. A name that cannot be resolved changes nothing."""
        named: dict[str, Endpoint] = {}
        for endpoint in self._endpoints:
            place = _place(endpoint.target.removeprefix(DNS)) if endpoint.target.startswith(DNS) else None
            if place is None:
                named[endpoint.target] = endpoint
                continue
            try:
                targets = await self._resolve(*place)
            except OSError as error:
                log.warning("The name %s cannot be resolved: %s", place[0], error)
                targets = [m.endpoint.target for m in self if m.endpoint.host == place[0]]
            named |= {target: replace(endpoint, target=target, host=place[0]) for target in targets}
        for target, endpoint in named.items():
            if target not in self._members:
                self._members[target] = member = Member(endpoint)
                self._looks[target] = asyncio.create_task(self._keep_looking(member))
            self._members[target].leaving = False
        for target, member in list(self._members.items()):
            member.leaving = target not in named
            if member.leaving and not member.running:
                del self._members[target]
                self._looks.pop(target).cancel()
                await member.close()

    # ---- how they are --------------------------------------------------------------------------------------------

    async def _keep_looking(self, member: Member) -> None:
        while True:
            with suppress(TimeoutError):
                # one that missed a look gets the next at once, so that a hanging server is known within three seconds
                async with asyncio.timeout(0.05 if member.state == SILENT else _LOOK_SECONDS):
                    await member.wake.wait()
            member.wake.clear()
            try:
                await self._look(member)
            except Exception:  # the boundary of the task: nobody would look at this server again
                log.exception("A look at the tritonserver at %s failed.", member.endpoint.target)

    async def _look(self, member: Member) -> None:
        try:
            answer = await member.client.ask("ServerReady", pb.ServerReadyRequest(), _LOOK_SECONDS)
            member.answered(answer.ready)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                member.answered(True)  # it speaks, and its readiness is nobody's business
            else:
                member.missed(error.code() == grpc.StatusCode.UNAVAILABLE)
                return
        if time.monotonic() - member.looked_at_models > _MODELS_SECONDS:
            member.looked_at_models = time.monotonic()
            await self.look_at_models(member)

    async def look_at_models(self, member: Member) -> None:
        """Learn which of the models that are asked a server has; load there what it lacks, beside this."""
        names = [name for name in list(self.published) if name in self.wanted]
        ready = await asyncio.gather(*(member.client.ready(name, _LOOK_SECONDS) for name in names))
        for name, is_ready in zip(names, ready, strict=True):
            if is_ready:
                member.models[name] = await self._as_published(member, name)
            else:
                member.models.pop(name, None)
        if not all(ready) and (member.repairing is None or member.repairing.done()):
            loop = asyncio.get_running_loop()
            member.repairing = loop.run_in_executor(self._threads, self._repair, member)
            member.repairing.add_done_callback(lambda done: _repaired(member, done))

    async def _as_published(self, member: Member, name: str) -> bool:
        """Whether what a server runs is what this side's manifest tells, in the variant that it wants."""
        try:
            told = await member.client.ask("ModelConfig", pb.ModelConfigRequest(name=name), _LOOK_SECONDS)
        except grpc.RpcError:
            return True  # it does not tell
        return same(told.config.parameters[MANIFEST_PARAMETER].string_value, self.published.get(name))

    def _repair(self, member: Member) -> bool:
        """Load at a server what it lacks of what is wanted; whether anything could be."""
        done = False
        for model in list(self.wanted):
            with suppress(TritonVisionError):
                done |= not member.control.ready(model) and member.load(model)
        return done


def same(told: str, ours: Manifest | None) -> bool:
    """Whether the manifest in a server's config is of the publication and the variant of ``ours``, if it tells."""
    try:
        theirs = Manifest.from_json(told)
    except (ValueError, TypeError, KeyError):
        return True
    return ours is None or (theirs.sha256, theirs.serving) == (ours.sha256, ours.serving)


def _repaired(member: Member, done: asyncio.Future[bool]) -> None:
    if not done.cancelled() and done.exception() is None and done.result():
        member.looked_at_models = 0.0
        member.wake.set()
