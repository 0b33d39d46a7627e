"""A typed client for the public models on any Triton: pictures in, result types out, over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision import catalog, stages
from tritonvision.endpoint import Endpoint, as_endpoint
from tritonvision.engine import codec, failures
from tritonvision.engine.facts import Facts
from tritonvision.engine.triton_calls import TritonCalls
from tritonvision.errors import TritonVisionError
from tritonvision.publication import MANIFEST_PARAMETER, Manifest
from tritonvision.results import Result, TrackedMasks

_LOOK = 0.5  # seconds between two checks whether the generating process is alive


class TritonClient:
    """Runs inference on any Triton, one picture at a time. A context manager.

    Args:
        address: gRPC ``host:port``; an endpoint where it wants a token or TLS.
        deadline: seconds an answer may take.
    """

    def __init__(self, address: str | Endpoint = "127.0.0.1:8001", deadline: float = 30.0):
        endpoint = as_endpoint(address)
        self._metadata = endpoint.metadata()
        self._channel = endpoint.channel()
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._deadline = deadline
        self._facts: dict[str, Facts] = {}

    def infer(self, model_id: str, picture: bytes, *, multi_label: bool | None = None, **parameters: Any) -> Result:
        """The answer of a published model about one encoded picture, or ``.npy`` bytes (uint8 RGB).

        Args:
            multi_label: whether its classes are independent of each other; None for what its manifest in Triton says.
            parameters: settings of the model's task (``tritonvision.tasks``).

        Raises the error tree.
        """
        name = catalog.triton_name(model_id)
        tensors = self._call(codec.encode(name, [{"image": picture}], [parameters]))
        if name not in self._facts:
            try:
                told = self._stub.ModelConfig(
                    pb.ModelConfigRequest(name=name), timeout=self._deadline, metadata=self._metadata
                )
            except grpc.RpcError:
                told = None
            self._facts[name] = _facts_of(model_id, told)
        return _result(tensors, parameters, self._facts[name], multi_label)

    def embed_text(self, model_id: str, text: str) -> Result:
        """The embedding of a text, float32 (1, D). Raises the error tree."""
        request = codec.encode(f"{catalog.triton_name(model_id)}--text", [{"text": text.encode()}], [{}])
        return codec.to_result(self._call(request), {})

    def stream(self, model_id: str) -> TritonStream:
        """A stream of a model that follows objects; a context manager, which ends it."""
        return TritonStream(catalog.triton_name(model_id), self._call)

    def _call(self, request: Any) -> dict[str, np.ndarray]:
        try:
            response = self._stub.ModelInfer(request, timeout=self._deadline, metadata=self._metadata)
        except grpc.RpcError as error:
            raise failures.to_error(error) from error
        return codec.decode(response)[0]

    def close(self) -> None:
        """Drop the connection."""
        self._channel.close()

    def __enter__(self) -> TritonClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class TritonStream:
    """One stream: a sequence of requests that one process of the server answers and remembers.

    Attributes:
        id: of the sequence.
    """

    def __init__(self, model: str, call: Callable[[Any], dict[str, np.ndarray]]):
        self._model, self._call = model, call
        self.id, self._begun = codec.new_sequence(), False

    def step(self, picture: bytes | None = None, **parameters: Any) -> TrackedMasks:
        """The objects on the next frame, or, without one, on a frame before that the prompts are about.

        Args:
            picture: the frame, encoded, or ``.npy`` bytes (uint8 RGB).
            parameters: settings of :data:`tritonvision.tasks.TRACKING`.

        Raises the error tree.
        """
        step, self._begun = codec.SequenceStep(self.id, start=not self._begun), True
        sample = {} if picture is None else {"image": picture}
        request = codec.encode(self._model, [sample], [parameters], sequence=step)
        found = codec.to_result(self._call(request), parameters)
        assert isinstance(found, TrackedMasks)
        return found

    def close(self) -> None:
        """Let the server forget it."""
        if self._begun:
            self._begun = False
            with suppress(TritonVisionError):  # it has ended
                step = codec.SequenceStep(self.id, end=True)
                self._call(codec.encode(self._model, [{}], [{"mask_format": "none"}], sequence=step))

    def __enter__(self) -> TritonStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTritonClient(TritonCalls):
    """:class:`TritonClient` for asyncio; a cancelled call is cancelled in the server, a closed stream too.

    Args:
        step_reports: gives what steps told since its last call, see :mod:`tritonvision.step_reports`; nothing of
            somebody else's server.
    """

    def __init__(
        self, address: str | Endpoint = "127.0.0.1:8001", deadline: float = 30.0,
        step_reports: Callable[[], bytes] = bytes,
    ):  # fmt: skip
        super().__init__(step_reports)
        endpoint = as_endpoint(address)
        self._metadata = endpoint.metadata()
        self._channel = endpoint.aio_channel()
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._deadline = deadline
        self._facts: dict[str, Facts] = {}

    async def start(self) -> None:
        """Nothing is to be done: gRPC connects with the first call."""

    async def ask(self, method: str, request: Any, timeout: float = 5.0) -> Any:
        """As :meth:`TritonCalls.ask`."""
        return await getattr(self._stub, method)(request, timeout=timeout, metadata=self._metadata)

    async def forward(self, request: Any, deadline: float, affinity: bytes = b"") -> Any:
        """As :meth:`TritonCalls.forward`."""
        return await self._stub.ModelInfer(request, timeout=deadline, metadata=self._traced())

    def _traced(self) -> Sequence[tuple[str, str]]:
        """The metadata of a call, with the trace of the current request, which Triton's own traces then continue."""
        timeline = stages.current()
        if timeline is None or not timeline.traceparent:
            return self._metadata
        return (*self._metadata, ("traceparent", timeline.traceparent))

    async def ready(self, model: str = "", timeout: float = 1.0) -> bool:
        """As :meth:`TritonCalls.ready`."""
        try:
            if model:
                return (await self.ask("ModelReady", pb.ModelReadyRequest(name=model), timeout)).ready
            return (await self.ask("ServerLive", pb.ServerLiveRequest(), timeout)).live
        except grpc.RpcError:
            return False

    async def responses(
        self, request: Any, stream_idle_timeout: float, lost: Callable[[], bool] = lambda: False, affinity: bytes = b""
    ) -> AsyncGenerator[Any, None]:
        """As :meth:`TritonCalls.responses`."""
        call = self._stub.ModelStreamInfer(metadata=self._traced())
        try:
            await _in_time(call.write(request), stream_idle_timeout, lost)  # a server that hangs takes nothing either
            await call.done_writing()
            while True:
                message = await _in_time(call.read(), stream_idle_timeout, lost)
                if message is grpc.aio.EOF:
                    return
                if message.error_message:
                    raise failures.StreamFailure(message.error_message)
                yield message.infer_response
        finally:
            call.cancel()

    async def infer(
        self, model_id: str, picture: bytes, *, multi_label: bool | None = None, **parameters: Any
    ) -> Result:  # fmt: skip
        """As :meth:`TritonClient.infer`."""
        name = catalog.triton_name(model_id)
        try:
            (tensors,) = await self.call(name, [{"image": picture}], [parameters], self._deadline)
        except grpc.RpcError as error:
            raise failures.to_error(error) from error
        if name not in self._facts:
            try:
                told = await self._stub.ModelConfig(
                    pb.ModelConfigRequest(name=name), timeout=self._deadline, metadata=self._metadata
                )
            except grpc.RpcError:
                told = None
            self._facts[name] = _facts_of(model_id, told)
        return _result(tensors, parameters, self._facts[name], multi_label)

    async def close(self) -> None:
        """Drop the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncTritonClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _facts_of(model_id: str, told: Any) -> Facts:
    """The facts in the manifest of a model's config; only its id where the config has none."""
    try:
        return Facts.of(Manifest.from_json(told.config.parameters[MANIFEST_PARAMETER].string_value))
    except (AttributeError, ValueError, TypeError, KeyError):
        return Facts(model_id, "")


def _result(
    tensors: Mapping[str, np.ndarray], parameters: Mapping[str, Any], facts: Facts, multi_label: bool | None
) -> Result:
    several = facts.multi_label if multi_label is None else multi_label
    return codec.to_result(tensors, parameters, multi_label=several, map_meaning=facts.map_meaning)


async def _in_time(work: Coroutine[Any, Any, Any], stream_idle_timeout: float, lost: Callable[[], bool]) -> Any:
    """The result of ``work``. Raises TimeoutError, or an error as soon as the generating process is lost."""
    give_up, working = time.monotonic() + stream_idle_timeout, asyncio.ensure_future(work)
    try:
        while True:
            left = give_up - time.monotonic()
            await asyncio.wait((working,), timeout=min(_LOOK, max(left, 0)))
            if working.done():
                return working.result()
            if lost():
                raise failures.StreamFailure("The stub process was lost in the middle of an answer.")
            if left <= 0:
                raise TimeoutError
    finally:
        working.cancel()
