"""What is shown to a tritonserver: the token with every call, a certificate where it asks; and never in words."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision.endpoint import Endpoint, TlsFiles, as_endpoint
from tritonvision.engine import codec
from tritonvision.engine.triton_grpc import AsyncTritonClient, TritonClient
from tritonvision.errors import InvalidParameter, ServerUnavailable, SetupError
from tritonvision.server.control import Control

TOKEN = "s3cret/token+with=signs"


class Guarded(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server that refuses every call without the token; ``called`` lists those it let in."""

    def __init__(self, header: str, value: str):
        self._header, self._value = header, value
        self.called: set[str] = set()

    def _let_in(self, method: str, context: grpc.ServicerContext) -> None:
        if dict(context.invocation_metadata()).get(self._header) != self._value:
            context.abort(grpc.StatusCode.UNAVAILABLE, "This protocol is restricted, expecting header 'x'")
        self.called.add(method)

    def ServerLive(self, request, context):
        """Alive."""
        self._let_in("ServerLive", context)
        return pb.ServerLiveResponse(live=True)

    def ServerMetadata(self, request, context):
        """A version."""
        self._let_in("ServerMetadata", context)
        return pb.ServerMetadataResponse(version="2.71.0")

    def ModelReady(self, request, context):
        """Ready."""
        self._let_in("ModelReady", context)
        return pb.ModelReadyResponse(ready=True)

    def ModelConfig(self, request, context):
        """A config without parameters."""
        self._let_in("ModelConfig", context)
        return pb.ModelConfigResponse()

    def ModelStatistics(self, request, context):
        """None."""
        self._let_in("ModelStatistics", context)
        return pb.ModelStatisticsResponse()

    def RepositoryModelLoad(self, request, context):
        """Loaded."""
        self._let_in("RepositoryModelLoad", context)
        return pb.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request, context):
        """Unloaded."""
        self._let_in("RepositoryModelUnload", context)
        return pb.RepositoryModelUnloadResponse()

    def ModelInfer(self, request, context):
        """One embedding of two numbers."""
        self._let_in("ModelInfer", context)
        answer = pb.ModelInferResponse()
        answer.outputs.add(name="embeddings", datatype="FP32", shape=(1, 2))
        answer.raw_output_contents.append(np.ones(2, np.float32).tobytes())
        return answer

    def ModelStreamInfer(self, request_iterator, context):
        """An empty stream."""
        self._let_in("ModelStreamInfer", context)
        for _ in request_iterator:
            yield from ()


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[Guarded, int]]]:
    """``serve(header, value, credentials=None)``: a guarded server on loopback, and its port."""
    servers = []

    def start(header: str, value: str, credentials: grpc.ServerCredentials | None = None) -> tuple[Guarded, int]:
        servers.append(server := grpc.server(ThreadPoolExecutor(1)))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(guarded := Guarded(header, value), server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        return guarded, port

    yield start
    for server in servers:
        server.stop(None)


def ask_everything(address: str | Endpoint) -> None:
    """Each call that our clients know how to make."""
    control = Control(address)
    control.live(timeout=10)
    control.version(), control.ready("m"), control.config("m"), control.load("m"), control.unload("m")
    control.close()
    with TritonClient(address) as client:
        client.infer("clip/RN50", b"")

    async def ask() -> None:
        async with AsyncTritonClient(address) as client:
            await client.infer("clip/RN50", b"")
            await client.tensors("m", {}, (), 10)
            assert await client.ready() and await client.ready("m")
            await client.times(["m"])
            assert [piece async for piece in client.stream(codec.encode_chat("m", [], [], {}), 10)] == []

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("header", "value"),
    [("authorization", f"Bearer {TOKEN}"), ("triton-grpc-protocol-key", TOKEN)],
)
def test_every_call_of_every_client_shows_the_token(serve, header, value):
    guarded, port = serve(header, value)
    ask_everything(Endpoint(f"127.0.0.1:{port}", token=TOKEN, token_header=header))
    known = {name for name in vars(Guarded) if name[0].isupper()}
    assert guarded.called == known


@pytest.mark.parametrize("token", [None, "wr0ng"])
def test_without_the_token_is_one_sentence_from_every_client(serve, token):
    _, port = serve("authorization", f"Bearer {TOKEN}")
    endpoint = Endpoint(f"127.0.0.1:{port}", token=token)
    control = Control(endpoint)
    assert not control.live(timeout=10)
    with pytest.raises(ServerUnavailable, match="token") as refused:
        control.load("m")
    control.close()
    assert "wr0ng" not in f"{refused.value.message}{refused.value.hint}"
    with TritonClient(endpoint) as client, pytest.raises(ServerUnavailable, match="token"):
        client.infer("clip/RN50", b"")


def test_the_token_is_in_no_repr_and_must_fit_into_a_header():
    assert TOKEN not in repr(Endpoint("a:1", token=TOKEN))
    for token in ("", " ", "two\nlines", "schlüssel"):
        with pytest.raises(InvalidParameter):
            Endpoint("a:1", token=token)
    assert as_endpoint("a:1").metadata() == ()


@pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl, which is not here")
def test_a_connection_with_tls_checks_the_server_and_shows_our_certificate(serve, tmp_path: Path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    pair = [(key.read_bytes(), certificate.read_bytes())]
    # the server takes nobody whose certificate is not this one
    credentials = grpc.ssl_server_credentials(pair, certificate.read_bytes(), require_client_auth=True)
    _, port = serve("authorization", f"Bearer {TOKEN}", credentials)
    files = TlsFiles(authorities=certificate, certificate=certificate, key=key)
    ask_everything(Endpoint(f"localhost:{port}", token=TOKEN, tls=files))
    for stranger in (None, TlsFiles(), TlsFiles(authorities=certificate)):
        control = Control(Endpoint(f"localhost:{port}", token=TOKEN, tls=stranger))
        assert not control.live(timeout=2)
        control.close()
    with pytest.raises(SetupError, match="cannot be read"):
        Control(Endpoint("localhost:1", tls=TlsFiles(authorities=tmp_path / "none.pem")))
