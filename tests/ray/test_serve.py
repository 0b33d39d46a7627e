"""examples/ray_serve.py as its first lines say: the routes behind Ray Serve; a replica that is killed comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from ray_processes import TREE, processes, wait_for

FACE = "mediapipe-face-detection"
URL = "http://127.0.0.1:8000"
REPLICA = "ray::ServeReplica"


@pytest.fixture(scope="module")
def served(served_repository, tmp_path_factory):
    log = (tmp_path_factory.mktemp("log") / "serve.log").open("w+")
    told = {"TRITONVISION_REPOSITORY": str(served_repository), "RAY_USAGE_STATS_ENABLED": "0"}
    line = [str(Path(sys.executable).parent / "serve"), "run", "examples.ray_serve:app"]
    server = subprocess.Popen(line, cwd=TREE, env=os.environ | told, stdout=log, stderr=log)
    wait_for(lambda: asked("/readiness") == 200 or server.poll() is not None, 120)
    log.seek(0)
    assert server.poll() is None, log.read()
    yield
    server.send_signal(signal.SIGINT)
    server.wait(60)


def asked(path: str, body: bytes | None = None) -> int:
    """The status of an answer, 0 without one."""
    try:
        with urllib.request.urlopen(urllib.request.Request(URL + path, body), timeout=30) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def faces(photo: bytes) -> list[dict]:
    request = urllib.request.Request(f"{URL}/models/{FACE}", photo, {"x-wait-for-model": "true"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_a_photo_is_answered_and_errors_are_the_dialects(served, photo):
    (face,) = faces(photo)
    assert face["score"] > 0.9 and face["label"] == "face"
    assert asked("/openapi.json") == 200 and asked("/nowhere") == 404
    assert asked(f"/models/{FACE}", b"no picture") == 400


def test_a_replica_that_is_killed_is_replaced(served, photo):
    (replica,) = processes(REPLICA)
    os.kill(replica, signal.SIGKILL)
    began = time.monotonic()
    wait_for(lambda: processes(REPLICA) not in ([], [replica]) and asked("/readiness") == 200)
    assert len(faces(photo)) == 1 and time.monotonic() - began < 60
