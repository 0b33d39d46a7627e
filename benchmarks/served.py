"""``tritonvision serve`` as a process of its own, for as long as a measurement takes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tritonvision.server import stubs
from tritonvision.server.process import free_port


class Served:
    """A server on a free port of 127.0.0.1. A context manager.

    Attributes:
        port: of HTTP.
        pid: of the facade process.
        started: ``time.perf_counter()`` just before the process was started.
    """

    def __init__(self, repository: Path, *models: str, environment: Mapping[str, str] = MappingProxyType({})):
        self.port = free_port()
        self._log = tempfile.TemporaryFile()
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tritonvision", "serve", *models, "--port", str(self.port)]
            + ["--repository", str(repository)],
            stdout=self._log, stderr=subprocess.STDOUT, env={**os.environ, **environment},
        )  # fmt: skip
        self.pid = self._process.pid

    def __enter__(self) -> Served:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._log.seek(0)
                raise SystemExit(f"serve ended: {self._log.read().decode()}")
            try:
                self.get("/readiness")
                return self
            except OSError:
                time.sleep(0.02)
        raise SystemExit("serve did not become ready within 90 s")

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def kill(self) -> None:
        """End it without a word, as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait()

    def get(self, path: str) -> bytes:
        """The body of a GET."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return answer.read()

    def post(self, path: str, body: dict) -> dict:
        """The JSON answer to a JSON POST."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def processes(self) -> list[int]:
        """The facade and everything below it."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                todo += map(int, task.read_text().split())
        return found

    def names(self) -> dict[int, str]:
        """What each of :meth:`processes` is: the Triton model of a stub, ``facade``, else the program's name."""
        names = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in self.processes()}
        names[self.pid] = "facade"
        for pid in [pid for pid, name in names.items() if name == "tritonserver"]:
            names |= {stub.pid: stub.model for stub in stubs.of_server(pid).values()}
        return names

    def pss_megabytes(self) -> float:
        """Proportional set size of all processes together."""
        total = 0
        for pid in self.processes():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(next(line.split()[1] for line in rollup.splitlines() if line.startswith("Pss:")))
        return total * 1024 / 1e6


