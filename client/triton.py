"""A typed client for the public models on any Triton: pictures in, result types out, over gRPC."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import grpc
import grpc.aio
import numpy as np
from tritonclient.grpc import service_pb2_grpc

from tritonvision import catalog
from tritonvision.client import codec, failures
from tritonvision.results import Result
from tritonvision.server.control import CHANNEL_OPTIONS


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
    """:class:`TritonClient` for asyncio; a cancelled call is cancelled in the server."""

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
