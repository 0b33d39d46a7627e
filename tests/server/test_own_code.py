"""Code of a user's own runs without the walls, also where it comes to a server that is already behind them."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc
from walled import CONFIG, MODEL_PY, PROBE, Walled, publish_probe

from tritonvision.server import Embedded, sandbox
from tritonvision.settings import Settings

OWN = "own"
LISTENS = "import socket; told = socket.create_server(('127.0.0.1', 0)).fileno() > 0"


def publish_own_code(root: Path) -> None:
    """Write a model into the repository ``root`` that does not begin as ours do."""
    (root / OWN / "1").mkdir(parents=True)
    (root / OWN / "config.pbtxt").write_text(CONFIG.replace(PROBE, OWN, 1))
    ours = MODEL_PY.splitlines(keepends=True)
    (root / OWN / "1" / "model.py").write_text("".join(line for line in ours if "as Ours" not in line))


@pytest.mark.skipif(not sandbox.seccomp_here(), reason="this kernel has no seccomp")
def test_a_running_server_is_started_again_without_walls_for_it(tmp_path: Path):
    publish_probe(tmp_path / "models")
    server = Embedded(Settings(repository=tmp_path / "models", log_dir=tmp_path / "log"))
    server.start()
    try:
        server.load(PROBE)
        with grpc.insecure_channel(server.address) as channel:
            walled = Walled(server, tmp_path, service_pb2_grpc.GRPCInferenceServiceStub(channel))
            assert server.confined and walled.inside(LISTENS).startswith("OSError")
        publish_own_code(tmp_path / "models")
        server.load(OWN)
        assert not server.confined and server.walls() == [] and server.starts == 2 and server.deaths == 0
        with grpc.insecure_channel(server.address) as channel:  # what was loaded before is loaded again
            walled = Walled(server, tmp_path, service_pb2_grpc.GRPCInferenceServiceStub(channel))
            assert walled.inside(LISTENS) == "True"
    finally:
        server.stop()


def test_a_server_over_such_a_repository_starts_without_them_and_so_does_one_that_shall(tmp_path: Path):
    publish_own_code(tmp_path / "own")
    publish_probe(tmp_path / "ours")
    for settings in (Settings(repository=tmp_path / "own"), Settings(repository=tmp_path / "ours", sandbox=False)):
        server = Embedded(settings.model_copy(update={"log_dir": tmp_path / "log"}))
        server.start()
        try:
            assert not server.confined and server.walls() == [] and server.starts == 1
        finally:
            server.stop()


def test_behind_the_walls_it_ends_in_peace(tmp_path: Path):
    publish_probe(tmp_path / "models")
    server = Embedded(Settings(repository=tmp_path / "models", log_dir=tmp_path / "log"))
    server.start()
    server.load(PROBE)
    server.stop()
    (log,) = (tmp_path / "log").iterdir()
    text = log.read_text()
    assert "Signal (15) received" in text and "Signal (6)" not in text and "terminate called" not in text
