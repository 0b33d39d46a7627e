"""Requests in Triton's own protocol, KServe's v2, passed on to public models: loaded, queued, with a deadline."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from tritonvision.engine import failures
from tritonvision.engine.loader import Loader
from tritonvision.engine.model_queue import ModelQueue
from tritonvision.engine.streams import check_alone
from tritonvision.engine.triton_calls import TritonCalls
from tritonvision.errors import DeadlineExceeded, NotSupported
from tritonvision.publication import Manifest
from tritonvision.settings import Settings
from tritonvision.tasks import VLM

# Calls that tell what a model is, and the types of their requests.
METADATA, CONFIG, STATISTICS = "ModelMetadata", "ModelConfig", "ModelStatistics"
_REQUESTS = {METADATA: pb.ModelMetadataRequest, CONFIG: pb.ModelConfigRequest, STATISTICS: pb.ModelStatisticsRequest}


class Forwarding:
    """Passes requests on to the entry points of published models.

    Args:
        sent: calls Triton from an entry point's queue, with retries, as the engine does.
        queue_of: the queue of an entry point.
        loses: for a Triton model, a function that tells whether a process of it was lost since then.
    """

    def __init__(
        self, client: TritonCalls, loader: Loader, sent: Callable[..., Awaitable[Any]],
        queue_of: Callable[[Manifest, str], ModelQueue], loses: Callable[[str], Callable[[], bool]], settings: Settings,
    ):  # fmt: skip
        self._client, self._loader, self._sent, self._queue_of = client, loader, sent, queue_of
        self._loses, self._settings = loses, settings

    async def infer(self, manifest: Manifest, role: str, request: Any, picture: bytes = b"") -> Any:
        """The ``ModelInferResponse`` to a ``ModelInferRequest``, whose model is set here.

        Args:
            role: of the entry point.
            picture: the first of the request, for what is known of pictures that end processes.

        Raises:
            NotSupported, InvalidParameter: the model answers in pieces only; it has no such entry point, or refuses.
            ModelLoading, Overloaded, DeadlineExceeded, ServerUnavailable, ...
        """
        self._name(manifest, role, request)
        if manifest.task == VLM.name:
            raise NotSupported(
                f"'{manifest.id}' writes its answer piece by piece.", hint="Ask it by gRPC's ModelStreamInfer."
            )
        asked = request.id  # each try may replace it
        with self._loader.loaded_models.using(manifest):
            await self._loader.ensure(manifest)
            answer = await self._sent(
                manifest, role, lambda left: self._client.measured(request, left), picture, self._settings.deadline
            )
        answer.id = asked
        return answer

    async def responses(self, manifest: Manifest, role: str, request: Any) -> AsyncGenerator[Any, None]:
        """Every ``ModelInferResponse`` to one request, for models that answer in pieces. As :meth:`infer`."""
        self._name(manifest, role, request)
        idle = self._settings.stream_idle_timeout
        with self._loader.loaded_models.using(manifest):
            await self._loader.ensure(manifest)
            queue, lost = self._queue_of(manifest, role), self._loses(request.model_name)
            async with (
                queue.place(queue.longest_wait()), aclosing(self._client.responses(request, idle, lost)) as pieces
            ):  # fmt: skip
                try:
                    async for piece in pieces:
                        yield piece
                except TimeoutError as error:
                    raise DeadlineExceeded(hint="Raise TRITONVISION_STREAM_IDLE_TIMEOUT.") from error
                except grpc.RpcError as error:
                    raise failures.to_error(error) from error

    async def describe(self, call: str, manifest: Manifest, role: str) -> Any:
        """What Triton tells of an entry point, which is loaded for it; an ensemble's config has no steps in it.

        Nobody is let at these, and perf_analyzer asks for the config of each that it reads of. The empty list stays: it
        ends in a segmentation fault where an ensemble has none.

        Args:
            call: :data:`METADATA`, :data:`CONFIG` or :data:`STATISTICS`.
        """
        _check_role(manifest, role)
        with self._loader.loaded_models.using(manifest):
            await self._loader.ensure(manifest)
            try:
                told = await self._client.ask(call, _REQUESTS[call](name=manifest.entry_point(role)))
            except grpc.RpcError as error:
                raise failures.to_error(error) from error
        if call == CONFIG and told.config.HasField("ensemble_scheduling"):
            told.config.ensemble_scheduling.ClearField("step")
        return told

    @staticmethod
    def _name(manifest: Manifest, role: str, request: Any) -> None:
        _check_role(manifest, role)
        check_alone(manifest)
        request.model_name, request.model_version = manifest.entry_point(role), ""


def _check_role(manifest: Manifest, role: str) -> None:
    if role not in manifest.roles:
        raise failures.no_entry_point(manifest, role)
