"""What is asked of tritonservers over gRPC, whichever and however many they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from tritonvision.engine import codec, failures
from tritonvision.engine.model_times import ModelTimes
from tritonvision.engine.step_times import StepTimes
from tritonvision.results import Delta


@dataclass(frozen=True)
class EndpointFigures:
    """One of several tritonservers, as this process sees it.

    Attributes:
        target: its gRPC address.
        healthy: whether it answers and calls itself ready.
        requests: calls that began there since it was found.
        failures: those of them that ended with an error of the server's, not of what was asked.
        outstanding: calls under way.
    """

    target: str
    healthy: bool
    requests: int
    failures: int
    outstanding: int


class TritonCalls(ABC):
    """What is asked of one tritonserver, or of several as if they were one; for callers that handle ``grpc.RpcError``.

    Args:
        step_reports: gives what steps told since its last call, see :mod:`tritonvision.step_reports`; nothing of
            somebody else's server.

    Attributes:
        width: how many tritonservers answer.
    """

    width = 1

    def __init__(self, step_reports: Callable[[], bytes] = bytes):
        self._step_times = StepTimes(step_reports)

    @abstractmethod
    async def start(self) -> None:
        """Called once, before anything is asked. The server need not answer yet."""

    @abstractmethod
    async def close(self) -> None:
        """Drop the connections."""

    @abstractmethod
    async def ask(self, method: str, request: Any, timeout: float = 5.0) -> Any:
        """The answer to any call of Triton's gRPC service that has one; ``request`` names the model by ``name``."""

    @abstractmethod
    async def forward(self, request: Any, deadline: float, affinity: bytes = b"") -> Any:
        """The ``ModelInferResponse`` to a ``ModelInferRequest``.

        Args:
            affinity: of several servers, the same one is asked about the same bytes as long as it has room.
        """

    @abstractmethod
    def responses(
        self, request: Any, stream_idle_timeout: float, lost: Callable[[], bool] = lambda: False, affinity: bytes = b""
    ) -> AsyncGenerator[Any, None]:
        """Every ``ModelInferResponse`` to one request; arguments as for :meth:`stream`."""

    @abstractmethod
    async def ready(self, model: str = "", timeout: float = 1.0) -> bool:
        """Whether the server answers, or the Triton model ``model`` of it, within ``timeout`` seconds."""

    def endpoints(self) -> list[EndpointFigures]:
        """Each of several tritonservers; none where there is but one, whose figures are those of the whole."""
        return []

    def new_sequence(self, model: str) -> int:
        """An id for a sequence of requests to ``model`` that belong together."""
        return codec.new_sequence()

    async def call(
        self, model: str, samples: Sequence[codec.Sample], parameters: Sequence[Mapping[str, Any]], deadline: float,
        outputs: Collection[str] = (), sequence: codec.SequenceStep | None = None, affinity: bytes = b"",
    ) -> list[dict[str, np.ndarray]]:  # fmt: skip
        """Output tensors of each sample from the Triton model ``model``; as :meth:`measured`."""
        request = codec.encode(model, samples, parameters, outputs, sequence)
        return codec.decode(await self.measured(request, deadline, affinity))

    async def measured(self, request: Any, deadline: float, affinity: bytes = b"") -> Any:
        """As :meth:`forward`; the call is a stage of the current request, see :mod:`tritonvision.stages`.

        Where somebody measures, the request gets an id of its own, which the answer repeats.
        """
        with self._step_times.call() as request_id:
            request.id = request_id or request.id
            return await self.forward(request, deadline, affinity)

    async def tensors(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Collection[str], deadline: float,
        sequence: codec.SequenceStep | None = None,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        """What any Triton model answers, tensors as it declares them."""
        request = codec.encode_tensors(model, inputs, outputs, sequence)
        return codec.decode_tensors(await self.forward(request, deadline))

    async def times(self, models: Collection[str], timeout: float = 5.0) -> list[ModelTimes]:
        """What Triton counted of each of these models since it was loaded; those it does not have are left out."""
        found = []
        for model in models:
            try:
                told = await self.ask("ModelStatistics", pb.ModelStatisticsRequest(name=model), timeout)
            except grpc.RpcError as error:
                if failures.not_loaded(error) or error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    continue
                raise failures.to_error(error) from error
            found += [ModelTimes.of(each) for each in told.model_stats]
        return found

    async def statistics(self, timeout: float = 2.0) -> list[ModelTimes]:
        """What Triton counted of every model that it has loaded. Raises the error tree."""
        try:
            told = await self.ask("ModelStatistics", pb.ModelStatisticsRequest(), timeout)
        except grpc.RpcError as error:
            raise failures.to_error(error) from error
        return [ModelTimes.of(each) for each in told.model_stats]

    async def stream(
        self, request: Any, stream_idle_timeout: float, lost: Callable[[], bool] = lambda: False, affinity: bytes = b""
    ) -> AsyncGenerator[Delta, None]:  # fmt: skip
        """The pieces of a generated answer.

        Args:
            request: of :func:`codec.encode_chat`.
            stream_idle_timeout: seconds that may pass between two pieces. Raises TimeoutError after more.
            lost: whether the generating process died, which Triton does not report in a stream.
            affinity: as for :meth:`forward`.
        """
        async with aclosing(self.responses(request, stream_idle_timeout, lost, affinity)) as responses:
            async for response in responses:
                delta = codec.decode_delta(response)
                if delta is not None:
                    yield delta
