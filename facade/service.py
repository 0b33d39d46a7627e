"""What every dialect calls for inference: admission, pictures, the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from starlette.requests import HTTPConnection, Request

from tritonvision import catalog, stages
from tritonvision.engine.mask_grid import Progress
from tritonvision.engine.model_times import ModelTimes
from tritonvision.errors import (
    BrokenModel,
    InvalidParameter,
    InvalidPicture,
    ModelLoading,
    NotSupported,
    TritonVisionError,
    UnknownModel,
    one_of_several,
)
from tritonvision.facade.admission import Admission, ByteReservation
from tritonvision.facade.context import context_of
from tritonvision.facade.data_plane import DataPlane
from tritonvision.facade.inputs.pictures import Pictures
from tritonvision.facade.middleware.disconnect import OpenRequests
from tritonvision.facade.observability.metrics import Metrics
from tritonvision.facade.security.access import Access, caller_of
from tritonvision.facade.shared_store import SharedStore
from tritonvision.publication import Manifest
from tritonvision.results import Delta, SAMPrediction
from tritonvision.settings import Settings
from tritonvision.tasks import TASKS

T = TypeVar("T")
Read = Callable[[ByteReservation], Awaitable[bytes]]
Samples = Sequence[Mapping[str, Any]]
# Seconds between two tries while a model is loading.
_LOOK = 1.0


@dataclass(frozen=True)
class Answered:
    """The results of one request.

    Attributes:
        results: one result type a picture, in order.
        pictures: the encoded pictures they belong to.
        seconds: time of the whole request.
    """

    manifest: Manifest
    results: list[Any]
    pictures: list[bytes]
    seconds: float


@dataclass(frozen=True)
class Service:
    """Shared by the routes of one application."""

    engine: DataPlane
    settings: Settings
    admission: Admission
    metrics: Metrics
    pictures: Pictures
    access: Access
    store: SharedStore
    requests: OpenRequests = field(default_factory=OpenRequests)

    async def why_not_ready(self, manifest: Manifest | None = None) -> str:
        """Why requests (for ``manifest``) would not be answered now; empty if they would."""
        if self.requests.draining:
            return "The server is shutting down."
        if await self.engine.ready(manifest):
            return ""
        return self.engine.why_not_ready(manifest) or "The server is not ready."

    def find(self, connection: HTTPConnection, name: str) -> Manifest:
        """The published model ``name``, which the caller may ask.

        Raises:
            UnknownModel: there is no such model.
            BrokenModel: what is published under that name cannot be read.
            Unauthorized, Forbidden: the caller may not ask it, whether there is such a model or not.
        """
        try:
            manifest = self.engine.repository.resolve(name)
        except (UnknownModel, BrokenModel):
            caller_of(connection).check_ask(catalog.canonical(name))
            raise
        caller_of(connection).check_ask(manifest.id)
        return manifest

    def find_unless_exported(self, connection: HTTPConnection, name: str) -> Manifest | None:
        """As :meth:`find`; None where there is no such model, and the engine may export it for this caller."""
        try:
            return self.find(connection, name)
        except UnknownModel:
            if caller_of(connection).may_manage(connection):
                return None
            raise

    def check_manage(self, connection: HTTPConnection, name: str) -> None:
        """Raises Unauthorized or Forbidden where the caller may not load, unload and export the model ``name``."""
        manifest = self.engine.repository.find(name)
        caller_of(connection).check_manage(connection, catalog.canonical(name) if manifest is None else manifest.id)

    async def published(self, connection: HTTPConnection) -> list[Manifest]:
        """Every published model that the caller may ask, by id."""
        caller = caller_of(connection)
        everything = await asyncio.to_thread(list, self.engine.repository)  # reads the disk
        return [manifest for manifest in everything if caller.may_ask(manifest.id)]

    async def why_model_not_ready(self, manifest: Manifest) -> str:
        """Why the model would not answer at once; empty if it would."""
        if self.requests.draining:
            return "The server is shutting down."
        return await self.engine.why_model_not_ready(manifest)

    async def triton_figures(self) -> list[ModelTimes] | None:
        """What Triton counted of each of its models; None where it does not answer."""
        try:
            return await self.engine.statistics()
        except TritonVisionError:
            return None

    async def manifest(
        self, request: Request, name: str, tasks: Collection[str], *, wait: bool = True, wait_timeout: float = 0.0
    ) -> Manifest:
        """The published model ``name``, checked to do one of ``tasks``; arguments as for :meth:`ask`.

        Raises:
            UnknownModel, ModelLoading: there is no such model; or it is being exported, if the caller may do that.
            Unauthorized, Forbidden: the caller may not ask it.
            NotSupported: no dialect serves its task yet.
            InvalidParameter: it does another task.
        """
        manifest = self.find_unless_exported(request, name)
        if manifest is None:
            body = context_of(request).body
            if body is not None and not body.empty:
                await request.body()  # a disconnect is only seen after the body is read, and the wait may be long
            # the engine may export a missing model
            loading = partial(self.engine.load, name, wait=wait)
            manifest = await self._until_loaded(loading, wait_timeout)
            caller_of(request).check_ask(manifest.id)
        context_of(request).model = manifest.id
        if manifest.task not in TASKS:
            raise NotSupported(f"'{name}' does {manifest.task}, which this server does not answer yet.")
        if manifest.task not in tasks:
            raise InvalidParameter(f"'{name}' does {manifest.task}, not {' or '.join(tasks)}.")
        return manifest

    async def loaded(
        self, request: Request, manifest: Manifest, *, wait: bool = True, wait_timeout: float = 0.0
    ) -> None:
        """Return when the model is loaded; arguments as for :meth:`ask`. Raises ModelLoading."""
        await self._until_loaded(partial(self.engine.load, manifest.id, wait=wait), wait_timeout)

    async def ask(
        self, request: Request, manifest: Manifest, pictures: Sequence[Read], parameters: Mapping[str, Any], *,
        wait: bool = True, wait_timeout: float = 0.0, regions: Sequence[Sequence[float]] | None = None,
    ) -> Answered:  # fmt: skip
        """Read the pictures and run the model on them.

        Args:
            pictures: how to read each picture.
            wait: whether to wait for a model that is not loaded yet.
            wait_timeout: seconds to retry while the model is loading.
            regions: parts of the only picture; one answer a region.

        Raises:
            InvalidPicture, InvalidParameter, Overloaded, and what the engine raises.
        """
        if not pictures:
            raise InvalidPicture("There is no picture in the request.")
        self._check_count(len(pictures))
        if regions is not None and len(pictures) != 1:
            raise InvalidParameter("Regions go with one picture.", hint="Send the pictures one by one.")
        if regions is not None and not 1 <= len(regions) <= self.settings.max_regions:
            raise InvalidParameter(f"One request may hold 1 to {self.settings.max_regions} regions.")

        def work(read: Sequence[bytes]) -> Awaitable[tuple[Manifest, list[Any]]]:
            more = {} if regions is None else {"regions": regions}
            return self._until_loaded(
                partial(self.engine.infer, manifest, read, parameters, wait=wait, **more), wait_timeout
            )

        self._admit(request, manifest, len(pictures))
        return await self._work(request, manifest, pictures, work)

    async def ask_samples(
        self, request: Request, manifest: Manifest, samples: Samples | Callable[[Sequence[bytes]], Samples],
        parameters: Mapping[str, Any], *, pictures: Sequence[Read] = (), role: str = "", outputs: Collection[str] = (),
    ) -> Answered:  # fmt: skip
        """As :meth:`ask`, for samples with other inputs than a picture alone.

        Args:
            samples: inputs by name: texts in UTF-8, arrays; or a function that makes them of the pictures.
            pictures: how to read the ``image`` of each sample, or whatever ``samples`` makes them of; none where they
                have none.
            role: of the entry point, e.g. ``text``.
            outputs: what is wanted; everything when empty.
        """
        self._check_count(len(pictures))

        def work(read: Sequence[bytes]) -> Awaitable[tuple[Manifest, list[Any]]]:
            if callable(samples):
                whole = samples(read)
            else:
                whole = [{"image": image, **s} for image, s in zip(read, samples, strict=True)] if read else samples
            return self.engine.ask(manifest, whole, parameters, role=role, outputs=outputs)

        self._admit(request, manifest, max(len(pictures), 1), role)
        return await self._work(request, manifest, pictures, work)

    def chat(
        self, request: Request, manifest: Manifest, messages: Sequence[Mapping[str, Any]], pictures: Sequence[Read],
        parameters: Mapping[str, Any],
    ) -> AsyncGenerator[Delta, None]:  # fmt: skip
        """The model's answer to a conversation, piece by piece as it is generated.

        Closing the iterator or cancelling the request's task cancels it. Errors before it come with the first piece.

        Args:
            messages: ``{"role", "content"}`` with the roles system, user and assistant, the content a list of
                ``{"type": "text", "text"}`` and ``{"type": "image"}``.
            pictures: how to read each image, in their order.

        Raises:
            InvalidPicture, InvalidParameter, Overloaded, and what the engine raises.
        """
        return self._written(
            request, manifest, pictures, lambda read: self.engine.chat(manifest, messages, read, parameters)
        )

    def generate_masks(
        self, request: Request, manifest: Manifest, picture: Read, parameters: Mapping[str, Any]
    ) -> AsyncGenerator[Progress | SAMPrediction, None]:
        """Yields the progress over a picture's grid, and the masks at the end; ends and raises as :meth:`chat`.

        Args:
            parameters: of :data:`tritonvision.engine.mask_grid.PARAMETERS`.
        """
        return self._written(
            request, manifest, [picture], lambda read: self.engine.generate_masks(manifest, read[0], parameters)
        )

    async def _written(
        self, request: Request, manifest: Manifest, pictures: Sequence[Read],
        work: Callable[[Sequence[bytes]], AsyncGenerator[T, None]],
    ) -> AsyncGenerator[T, None]:  # fmt: skip
        """The pieces of a streamed answer, admitted with its pictures."""
        self._check_count(len(pictures))
        context = context_of(request)
        self._admit(request, manifest, max(len(pictures), 1))
        with stages.stage("decode"):
            read = await read_all(pictures, context.reservation) if pictures else []
        began = time.perf_counter()
        failed = True
        try:
            async with aclosing(work(read)) as pieces:
                async for piece in pieces:
                    yield piece
            failed = False
        finally:
            self.metrics.inference(manifest.id, time.perf_counter() - began, failed)
            context.answered = time.monotonic_ns()

    async def forward(self, manifest: Manifest, role: str, message: Any, picture: bytes) -> Any:
        """Triton's ``ModelInferResponse`` to its ``ModelInferRequest``, for a request that was admitted."""
        began, failed = time.perf_counter(), True
        try:
            answer = await self.engine.forwarding.infer(manifest, role, message, picture)
            failed = False
        finally:
            self.metrics.inference(manifest.id, time.perf_counter() - began, failed)
        return answer

    async def forward_pieces(self, manifest: Manifest, role: str, message: Any) -> AsyncGenerator[Any, None]:
        """As :meth:`forward`, every response of a model that answers in pieces."""
        began, failed = time.perf_counter(), True
        try:
            async with aclosing(self.engine.forwarding.responses(manifest, role, message)) as pieces:
                async for piece in pieces:
                    yield piece
            failed = False
        finally:
            self.metrics.inference(manifest.id, time.perf_counter() - began, failed)

    def admit(self, request: Request, manifest: Manifest, pictures: int, role: str = "") -> None:
        """Admit a request for so many pictures at once, before they are read or where several calls ask about one each.

        Raises:
            InvalidParameter, Overloaded: it is more than one request may hold, or than there is room for.
        """
        self._check_count(pictures)
        self._admit(request, manifest, pictures, role)

    def _admit(self, request: Request, manifest: Manifest, pictures: int, role: str = "") -> None:
        """Admit the request with ``pictures``, here and at the model's queue, before they are read. Raises Overloaded.

        The admission lasts until the answer is encoded, drawing included; several calls of one request share it.
        """
        self.engine.check_room(manifest, pictures, role)
        context = context_of(request)
        more = pictures - context.admitted
        if more > 0:
            caller = caller_of(request)
            others = self.admission.pictures_of(caller.holder) - context.admitted
            caller.count_pictures(pictures, others, pictures - max(context.admitted, 1))
            context.room.enter_context(self.admission.admit(more, caller.holder, manifest.id))
            context.admitted = pictures

    def _check_count(self, pictures: int) -> None:
        if pictures > self.settings.max_batch:
            raise InvalidParameter(f"One request may hold {self.settings.max_batch} pictures, not {pictures}.")

    async def _work(
        self, request: Request, manifest: Manifest, reads: Sequence[Read],
        work: Callable[[Sequence[bytes]], Awaitable[tuple[Manifest, list[Any]]]],
    ) -> Answered:  # fmt: skip
        context = context_of(request)
        with stages.stage("decode"):
            pictures = await read_all(reads, context.reservation) if reads else []
        began = time.perf_counter()
        failed = True
        try:
            manifest, results = await work(pictures)
            failed = False
        finally:
            self.metrics.inference(manifest.id, time.perf_counter() - began, failed)
            context.answered = time.monotonic_ns()
        return Answered(manifest, results, pictures, time.perf_counter() - context.started)

    async def _until_loaded(self, ask: Callable[[], Awaitable[T]], wait_timeout: float) -> T:
        give_up = time.monotonic() + wait_timeout
        while True:
            try:
                return await ask()
            except ModelLoading:
                if time.monotonic() + _LOOK > give_up:
                    raise
                await asyncio.sleep(_LOOK)


async def read_all(reads: Sequence[Read], reservation: ByteReservation) -> list[bytes]:
    """Reads every picture, in order; several at once, since some are fetched. The first failure cancels the rest."""
    if len(reads) == 1:  # the usual case, without a task for it
        return [await reads[0](reservation)]

    async def numbered(number: int, read: Read) -> bytes:
        with one_of_several(number, len(reads)):
            return await read(reservation)

    tasks = [asyncio.ensure_future(numbered(number, read)) for number, read in enumerate(reads, 1)]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
