"""A typed client for the public models on any Triton: pictures in, result types out, over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision import catalog
from tritonvision.engine import codec, failures
from tritonvision.results import Delta, Result
from tritonvision.server.control import CHANNEL_OPTIONS

_LOOK = 0.5  # seconds between two looks whether the process that writes is still there


class TritonClient:
    """Asks a Triton about pictures, one at a time. A context manager.

    Args:
        address: gRPC ``host:port``.
        deadline: seconds an answer may take.
    """

    def __init__(self, address: str = "127.0.0.1:8001", deadline: float = 30.0):
        self._channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._deadline = deadline

    def infer(self, model_id: str, picture: bytes, *, multi_label: bool = False, **parameters: Any) -> Result:
        """The answer of a published model about one encoded picture, or ``.npy`` bytes (uint8 RGB).

        ``parameters`` are the settings of the model's task (``tritonvision.tasks``). Raises the error tree.
        """
        request = codec.encode(catalog.triton_name(model_id), [{"image": picture}], [parameters])
        return self._call(request, multi_label, parameters)

    def embed_text(self, model_id: str, text: str) -> Result:
        """The embedding of a text, float32 (1, D). Raises the error tree."""
        request = codec.encode(f"{catalog.triton_name(model_id)}--text", [{"text": text.encode()}], [{}])
        return self._call(request, False, {})

    def _call(self, request: Any, multi_label: bool, parameters: dict[str, Any]) -> Result:
        try:
            response = self._stub.ModelInfer(request, timeout=self._deadline)
        except grpc.RpcError as error:
            raise failures.to_error(error) from error
        mask_format = parameters.get("mask_format") or "rle"
        return codec.to_result(codec.decode(response)[0], multi_label=multi_label, mask_format=mask_format)

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

    async def call(
        self, model: str, samples: Sequence[codec.Sample], parameters: Sequence[Mapping[str, Any]], deadline: float,
        outputs: Collection[str] = (),
    ) -> list[dict[str, np.ndarray]]:  # fmt: skip
        """Output tensors of each sample from the Triton model ``model``, for callers that handle ``grpc.RpcError``."""
        request = codec.encode(model, samples, parameters, outputs)
        return codec.decode(await self._stub.ModelInfer(request, timeout=deadline))

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
    ) -> AsyncIterator[Delta]:  # fmt: skip
        """The pieces of a written answer, for callers that handle ``grpc.RpcError``.

        Args:
            request: of :func:`codec.encode_chat`.
            stream_idle_timeout: seconds that may pass between two pieces. Raises TimeoutError after more.
            lost: whether the process that writes is gone: Triton itself does not say so in a stream.
        """
        call = self._stub.ModelStreamInfer()
        try:
            await call.write(request)
            await call.done_writing()
            while True:
                message = await _until_loaded(asyncio.ensure_future(call.read()), stream_idle_timeout, lost)
                if message is grpc.aio.EOF:
                    return
                if message.error_message:
                    raise failures.StreamFailure(message.error_message)
                delta = codec.decode_delta(message.infer_response)
                if delta is not None:
                    yield delta
        finally:
            call.cancel()

    async def infer(self, model_id: str, picture: bytes, *, multi_label: bool = False, **parameters: Any) -> Result:
        """As :meth:`TritonClient.infer`."""
        try:
            rows = await self.call(catalog.triton_name(model_id), [{"image": picture}], [parameters], self._deadline)
        except grpc.RpcError as error:
            raise failures.to_error(error) from error
        mask_format = parameters.get("mask_format") or "rle"
        return codec.to_result(rows[0], multi_label=multi_label, mask_format=mask_format)

    async def close(self) -> None:
        """Drop the connection."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncTritonClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def _until_loaded(reading: asyncio.Future[Any], stream_idle_timeout: float, lost: Callable[[], bool]) -> Any:
    """What ``reading`` gives, unless it takes too long or nobody is there any more to say it."""
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
