"""podman for tests: one command after another, and containers that are removed at the end."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

# As docs/containers.md runs a server: nothing of the image can be written, and nobody in it has any right.
CONTAINED = (
    "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp:rw,size=512m,mode=1777",
)  # fmt: skip


class Podman:
    """``podman(*arguments)`` is what the command printed.

    Args:
        prefix: of the names of containers and volumes, so that no other test's are touched.
        environment: of the command.
    """

    def __init__(self, prefix: str, environment: Mapping[str, str]):
        self.prefix, self.environment = prefix, environment
        self._containers: list[str] = []
        self._volumes: list[str] = []

    def __call__(self, *arguments: str, seconds: float = 300) -> str:
        done = self._run(arguments, seconds)
        assert done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def fails(self, *arguments: str) -> bool:
        """Whether the command ends with another status than 0."""
        return self._run(arguments, 300).returncode != 0

    def start(self, name: str, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """A container in the background; its name."""
        own = f"{self.prefix}-{name}"
        self._containers.append(own)
        self("run", "--detach", f"--name={own}", *options, image, *command)
        return own

    def volume(self, name: str) -> str:
        """A new, empty volume; its name."""
        own = f"{self.prefix}-{name}"
        self._volumes.append(own)
        self("volume", "create", own)
        return own

    def address(self, container: str, port: int) -> str:
        """Where a port of a container is published on this machine."""
        return self("port", container, f"{port}/tcp").split()[0]

    def url(self, container: str) -> str:
        """Where its HTTP server is asked from this machine."""
        return f"http://{self.address(container, 9001)}"

    def state(self, container: str) -> dict[str, Any]:
        """Its state as podman tells it: Status, ExitCode, Pid, ..."""
        return json.loads(self("inspect", container))[0]["State"]

    def python(self, container: str, program: str) -> str:
        """What a program prints that runs in the container, by its Python and as its user."""
        return self("exec", container, "python", "-c", program).strip()

    def wait_ready(self, container: str, url: str, seconds: float = 90) -> None:
        """Return once ``/readiness`` is 200; fail with the container's log when it ended, or the time passed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.state(container)["Status"] == "running":
            if status(f"{url}/readiness") == 200:
                return
            time.sleep(0.2)
        raise AssertionError(f"{container} did not become ready:\n{self.log(container)}")

    def log(self, container: str) -> str:
        """Both of its streams."""
        done = self._run(("logs", container), 60)
        return done.stdout + done.stderr

    def remove_all(self) -> None:
        """Every container, then every volume."""
        for container in self._containers:
            self._run(("rm", "--force", "--time=0", container), 60)
        for volume in self._volumes:
            self._run(("volume", "rm", "--force", volume), 60)

    def _run(self, arguments: tuple[str, ...], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["podman", *arguments], capture_output=True, text=True, timeout=seconds, env=self.environment, check=False
        )


def status(url: str, key: str = "") -> int:
    """The status of a GET, 0 where nobody answers."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
