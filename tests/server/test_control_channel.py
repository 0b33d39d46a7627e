"""Connections to a user's tritonserver are direct, also with a proxy in the environment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision.engine.triton_grpc import AsyncTritonClient, TritonClient
from tritonvision.server.control import Control


class Somebody(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server that is live and answers every request with one embedding."""

    def ServerLive(self, request, context):
        """Alive."""
        return pb.ServerLiveResponse(live=True)

    def ModelInfer(self, request, context):
        """One embedding of two numbers."""
        answer = pb.ModelInferResponse()
        answer.outputs.add(name="embeddings", datatype="FP32", shape=(1, 2))
        answer.raw_output_contents.append(np.ones(2, np.float32).tobytes())
        return answer


@pytest.fixture
def address(monkeypatch) -> Iterator[str]:
    """The address of a server on loopback, in an environment with a proxy that does not answer."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    server = grpc.server(ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Somebody(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_a_proxy_in_the_environment_is_not_used(address):
    control = Control(address)
    assert control.live(timeout=10)
    control.close()
    with TritonClient(address) as client:
        assert client.embed_text("clip/RN50", "a word").tolist() == [[1, 1]]

    async def ask():
        async with AsyncTritonClient(address) as client:
            return await client.infer("clip/RN50", b"")

    assert asyncio.run(ask()).tolist() == [[1, 1]]
