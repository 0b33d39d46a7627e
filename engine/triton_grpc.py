"""A typed client for the public models on any Triton: pictures in, result types out, over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision import catalog
from tritonvision.engine import codec, failures
from tritonvision.engine.facts import Facts
from tritonvision.engine.model_times import ModelTimes
from tritonvision.publication import MANIFEST_PARAMETER, Manifest
from tritonvision.results import Delta, Result
from tritonvision.server.control import CHANNEL_OPTIONS

_LOOK = 0.5  # seconds between two checks whether the generating process is alive


class TritonClient:
    """Runs inference on any Triton, one picture at a time. A context manager.

    Args:
        address: gRPC ``host:port``.
        deadline: seconds an answer may take.
    """

    def __init__(self, address: str = "127.0.0.1:8001", deadline: float = 30.0):
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
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
                told = self._stub.ModelConfig(pb.ModelConfigRequest(name=name), timeout=self._deadline)
            except grpc.RpcError:
                told = None
            self._facts[name] = _facts_of(model_id, told)
        return _result(tensors, parameters, self._facts[name], multi_label)

    def embed_text(self, model_id: str, text: str) -> Result:
        """The embedding of a text, float32 (1, D). Raises the error tree."""
        request = codec.encode(f"{catalog.triton_name(model_id)}--text", [{"text": text.encode()}], [{}])
        return codec.to_result(self._call(request), {})

    def _call(self, request: Any) -> dict[str, np.ndarray]:
        try:
            response = self._stub.ModelInfer(request, timeout=self._deadline)
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


class AsyncTritonClient:
    """:class:`TritonClient` for asyncio; a cancelled call is cancelled in the server, a closed stream too."""

    def __init__(self, address: str = "127.0.0.1:8001", deadline: float = 30.0):
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._deadline = deadline
        self._facts: dict[str, Facts] = {}

    async def call(
        self, model: str, samples: Sequence[codec.Sample], parameters: Sequence[Mapping[str, Any]], deadline: float,
        outputs: Collection[str] = (), sequence: codec.SequenceStep | None = None,
    ) -> list[dict[str, np.ndarray]]:  # fmt: skip
        """Output tensors of each sample from the Triton model ``model``, for callers that handle ``grpc.RpcError``."""
        request = codec.encode(model, samples, parameters, outputs, sequence)
        return codec.decode(await self._stub.ModelInfer(request, timeout=deadline))

    async def tensors(
        self, model: str, inputs: Mapping[str, np.ndarray], outputs: Collection[str], deadline: float
    ) -> dict[str, np.ndarray]:
        """What any Triton model answers, tensors as it declares them, for callers that handle ``grpc.RpcError``."""
        request = codec.encode_tensors(model, inputs, outputs)
        return codec.decode_tensors(await self._stub.ModelInfer(request, timeout=deadline))

    async def times(self, models: Collection[str], timeout: float = 5.0) -> list[ModelTimes]:
        """What Triton counted of each of these models since it was loaded; those it does not have are left out."""
        found = []
        for model in models:
            request = pb.ModelStatisticsRequest(name=model)
            try:
                told = await self._stub.ModelStatistics(request, timeout=timeout)
            except grpc.RpcError as error:
                if failures.not_loaded(error) or error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    continue
                raise failures.to_error(error) from error
            found += [ModelTimes.of(each) for each in told.model_stats]
        return found

    async def ready(self, model: str = "", timeout: float = 1.0) -> bool:
        """Whether the server answers, or the Triton model ``model`` of it, within ``timeout`` seconds."""
        try:
            if model:
                return (await self._stub.ModelReady(pb.ModelReadyRequest(name=model), timeout=timeout)).ready
            return (await self._stub.ServerLive(pb.ServerLiveRequest(), timeout=timeout)).live
        except grpc.RpcError:
            return False

    async def stream(
        self, request: Any, stream_idle_timeout: float, lost: Callable[[], bool] = lambda: False
    ) -> AsyncGenerator[Delta, None]:  # fmt: skip
        """The pieces of a generated answer, for callers that handle ``grpc.RpcError``.

        Args:
            request: of :func:`codec.encode_chat`.
            stream_idle_timeout: seconds that may pass between two pieces. Raises TimeoutError after more.
            lost: whether the generating process died, which Triton does not report in a stream.
        """
        call = self._stub.ModelStreamInfer()
        try:
            await call.write(request)
            await call.done_writing()
            while True:
                message = await _read_in_time(asyncio.ensure_future(call.read()), stream_idle_timeout, lost)
                if message is grpc.aio.EOF:
                    return
                if message.error_message:
                    raise failures.StreamFailure(message.error_message)
                delta = codec.decode_delta(message.infer_response)
                if delta is not None:
                    yield delta
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
                told = await self._stub.ModelConfig(pb.ModelConfigRequest(name=name), timeout=self._deadline)
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


async def _read_in_time(reading: asyncio.Future[Any], stream_idle_timeout: float, lost: Callable[[], bool]) -> Any:
    """The result of ``reading``. Raises TimeoutError, or an error as soon as the generating process is lost."""
    give_up = time.monotonic() + stream_idle_timeout
    try:
        while True:
            left = give_up - time.monotonic()
            await asyncio.wait((reading,), timeout=min(_LOOK, max(left, 0)))
            if reading.done():
                return reading.result()
            if lost():
                raise failures.StreamFailure("The stub process was lost in the middle of an answer.")
            if left <= 0:
                raise TimeoutError
    finally:
        reading.cancel()
