"""``serve`` says it where somebody else's tritonserver lacks security fixes, and claims nothing of others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tritonvision.cli.serve import _warn_of_old
from tritonvision.settings import Settings


class Told(service_pb2_grpc.GRPCInferenceServiceServicer):
    """A server that tells a version and nothing else."""

    def __init__(self, version: str):
        self._version = version

    def ServerMetadata(self, request, context):
        """The version."""
        return pb.ServerMetadataResponse(version=self._version)


@pytest.fixture
def server_of() -> Iterator[Callable[[str], str]]:
    """``server_of(version)``: the address of a server that tells it."""
    servers = []

    def start(version: str) -> str:
        servers.append(server := grpc.server(ThreadPoolExecutor(1)))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Told(version), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


def test_an_old_server_is_warned_of_by_its_address_and_the_safe_release_line(server_of, capsys):
    address = server_of("2.70.0")
    _warn_of_old(Settings(triton_url=address))
    said = capsys.readouterr().err
    assert said.startswith("Warning: ") and address in said and "2.70.0" in said and "r26.07" in said


def test_nothing_is_said_of_a_newer_one_of_one_without_a_version_and_of_one_that_is_not_there(server_of, capsys):
    for address in (server_of("2.71.0"), server_of(""), "127.0.0.1:9"):
        _warn_of_old(Settings(triton_url=address))
    assert capsys.readouterr().err == ""
