"""The image that serves on processors, in containers as people run them: contained, limited, in bad surroundings."""

from __future__ import annotations

import os
import time
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from podman_runs import CONTAINED, Podman, status

GB = 2**30
FACE = "mediapipe-face-detection"
# What a cluster, a proxy's administrator and a user without a home put around a server.
SURROUNDINGS = (
    "--env=HOME=/nowhere", "--env=TRITONVISION_LOG_DIR=/nowhere/log", "--env=TRITONVISION_PORT=tcp://10.0.0.7:9001",
    "--env=TRITONVISION_SERVICE_HOST=10.0.0.7", "--env=TRITONVISION_PORT_9001_TCP_ADDR=10.0.0.7",
    *(f"--env={name}=http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY")),
)  # fmt: skip
# A user that the image does not know, half of the machine's time, Docker's shared memory, and not much memory.
LIMITS = ("--user=54321:54321", "--cpus=1", "--memory=2g", "--shm-size=64m")
STUBS = """
import glob
for path in glob.glob("/proc/[0-9]*/cmdline"):
    if b"triton_python_backend_stub" in open(path, "rb").read().split(b"\\0")[0]:
        print(path.split("/")[2])
"""


@pytest.fixture(scope="module")
def server(podman: Podman, image: Callable[[str], str], served_repository: Path) -> Iterator[tuple[str, str]]:
    """The name of a container that serves the face model, and its address."""
    models = f"--volume={served_repository}:/models:ro"
    options = (*CONTAINED, *LIMITS, *SURROUNDINGS, "--publish=127.0.0.1::9001", models)
    name = podman.start("server", image("cpu"), "serve", FACE, options=options)
    url = podman.url(name)
    podman.wait_ready(name, url)
    yield name, url


def test_it_answers_through_its_port_without_rights_home_proxy_or_a_known_user(server, face):
    face(server[1])


def test_it_says_what_of_that_it_passed_over(podman, server):
    log = podman.log(server[0])
    assert "is a Service's address, not a port" in log and "TRITONVISION_LOG_DIR names another" in log
    assert "no setting is called" not in log and "Traceback" not in log


def test_its_threads_and_its_memory_follow_the_limits_of_the_container(podman, server):
    assert os.cpu_count() != 1, "a machine with one core cannot tell a limit of one"
    told = podman.python(server[0], "from tritonvision import cgroups, memory as m; print(cgroups.cores(), m.budget())")
    assert told == f"1 {int(0.85 * 2 * GB) - 400 * 2**20}"


def test_podman_finds_it_healthy(podman, server):
    podman("healthcheck", "run", server[0])


def test_a_process_of_triton_that_is_killed_is_replaced_inside(podman, server, face):
    name, url = server
    before = set(podman.python(name, STUBS).split())
    podman.python(name, f"import os; os.kill({min(before, key=int)}, 9)")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        after = set(podman.python(name, STUBS).split())
        if len(after) == len(before) and after != before and status(f"{url}/readiness") == 200:
            break
        time.sleep(0.2)
    assert len(after) == len(before) and min(before, key=int) not in after
    face(url)


def test_sigterm_ends_it_in_time_with_0_and_leaves_nothing(podman, server):
    started = time.monotonic()
    podman("stop", "--time=30", server[0])
    assert time.monotonic() - started < 15
    assert podman.state(server[0])["ExitCode"] == 0


def test_a_key_may_be_a_secret_that_is_a_file(podman, image, served_repository, tmp_path, face):
    secret = tmp_path / "api_key"
    secret.write_text("s3cret\n")
    options = (
        *CONTAINED, "--publish=127.0.0.1::9001", f"--volume={served_repository}:/models:ro",
        f"--volume={secret}:/run/secrets/tritonvision_api_key:ro",
    )  # fmt: skip
    name = podman.start("keyed", image("cpu"), options=options)
    url = podman.url(name)
    podman.wait_ready(name, url)
    with pytest.raises(urllib.error.HTTPError) as refused:
        face(url)
    assert refused.value.code == 401
    face(url, "s3cret")


def test_a_server_that_may_not_read_its_secret_ends_with_a_sentence(podman, image, tmp_path):
    secret = tmp_path / "api_key"
    secret.write_text("s3cret\n")
    secret.chmod(0o600)
    options = (*CONTAINED, f"--volume={secret}:/run/secrets/tritonvision_api_key:ro")
    name = podman.start("blind", image("cpu"), options=options)
    podman("wait", name)
    log = podman.log(name)
    assert "The secret /run/secrets/tritonvision_api_key cannot be read: Permission denied." in log
    assert "Traceback" not in log and podman.state(name)["ExitCode"] == 2
