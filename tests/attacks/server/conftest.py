"""A tritonserver behind its walls, and another user beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc
from walled import PROBE, SECRET, Walled, publish_probe

from tritonvision.endpoint import CHANNEL_OPTIONS
from tritonvision.server import Embedded
from tritonvision.settings import Settings

# Becomes another user after Python and what it needs are there: it may not be allowed to read them afterwards.
STRANGER = """
import ctypes, json, os, socket, sys, pathlib
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
def tried(work):
    try:
        return repr(work())
    except OSError as error:
        return type(error).__name__
"""

SECRETS = ("TRITONVISION_API_KEY", "ROBOFLOW_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD")


@pytest.fixture(scope="package")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walled]:
    """The server; secrets are in the environment it was started from."""
    root = tmp_path_factory.mktemp("repository")
    publish_probe(root)
    with tempfile.TemporaryDirectory() as log:
        os.chmod(log, 0o755)  # the log's own mode must keep others out
        with pytest.MonkeyPatch.context() as patch:  # for its start alone: other tests run before it stops
            for name in SECRETS:
                patch.setenv(name, SECRET)
            server = Embedded(Settings(repository=root, log_dir=Path(log)))
            server.start()
        try:
            server.load(PROBE)
            with grpc.insecure_channel(server.address, options=CHANNEL_OPTIONS) as channel:
                yield Walled(server, Path(log), service_pb2_grpc.GRPCInferenceServiceStub(channel))
        finally:
            server.stop()


@pytest.fixture(scope="session")
def as_stranger() -> Callable[..., object]:
    """``as_stranger(code, **values)``: what ``told`` is after ``code`` ran as another user, with ``tried(work)``."""
    if os.geteuid() != 0:
        pytest.skip("only root can play another user of this machine")

    def run(code: str, **values: object) -> object:
        program = f"{STRANGER}\ngiven = json.loads(sys.argv[1])\n{textwrap.dedent(code)}\nprint(json.dumps(told))"
        done = subprocess.run(
            [sys.executable, "-c", program, json.dumps(values)], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
