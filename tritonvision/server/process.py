"""One tritonserver process of our own: started, known to be ready, stopped; its log in a file that rotates."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tritonvision.errors import SetupError
from tritonvision.server.control import ADMIN_KEY, ADMIN_PROTOCOLS, Control
from tritonvision.server.locate import Installation

_START_SECONDS = 60.0
_EXIT_SECONDS = 5
# Asks the kernel to kill this process with its parent (prctl(2), PR_SET_PDEATHSIG = 1), then becomes the server. A
# process of its own, because code between fork and exec would run into gRPC's fork handlers.
_LAUNCHER = (
    sys.executable, "-I", "-S", "-c",
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])",
)  # fmt: skip
_BACKEND_MODEL_PY = '''"""ONNX Runtime as a Python-based backend."""

from tritonvision.python_backend.onnxruntime_backend import TritonPythonModel  # noqa: F401
'''


class TritonProcess:
    """A running tritonserver that answers on loopback only and dies with the thread that started it.

    Args:
        port: of gRPC, on loopback.
        token: what admin calls must carry.

    Attributes:
        address: gRPC ``host:port``.
        control: admin calls with this process's own token.
    """

    def __init__(self, installation: Installation, repository: Path, log_file: Path, port: int, token: str):
        self._folder = Path(tempfile.mkdtemp(prefix="tritonvision-run-"))
        self.address = f"127.0.0.1:{port}"
        self._log = _rotating_log(log_file)
        self._process = subprocess.Popen(
            [
                *_LAUNCHER,
                str(_executable(installation, self._folder)),
                f"--model-repository={repository}",
                f"--backend-directory={_backends(installation, self._folder)}",
                "--model-control-mode=explicit",
                "--disable-auto-complete-config",
                "--allow-http=false",
                "--allow-metrics=false",
                "--grpc-address=127.0.0.1",
                f"--grpc-port={port}",
                f"--grpc-restricted-protocol={ADMIN_PROTOCOLS}:{ADMIN_KEY}={token}",
                f"--exit-timeout-secs={_EXIT_SECONDS}",
            ],
            env=_environment(installation),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal is ours to handle
        )
        threading.Thread(target=self._pump_log, daemon=True, name="tritonserver-log").start()
        self.control = Control(self.address, token)

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def running(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def wait_live(self) -> None:
        """Return once the server answers. Raises SetupError when it ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.control.live():
            if not self.running():
                raise SetupError("tritonserver ended while starting.", hint="Try: tritonvision doctor")
            if time.monotonic() > deadline:
                raise SetupError("tritonserver did not answer within a minute.", hint="Its log tells why.")
            time.sleep(0.05)

    def stop(self, gently: bool) -> None:
        """End the process; ``gently`` lets it finish what it has. A server that lost a stub cannot end gently."""
        if self.running() and gently:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_SECONDS + 2)
        if self.running():
            self._process.kill()
        self._process.wait()
        self.control.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _pump_log(self) -> None:
        with self._process.stdout as lines:
            for line in lines:
                self._log.info(line.decode("utf-8", "replace").rstrip())


def free_port() -> int:
    """A TCP port on loopback that nobody uses now, below those the system gives to outgoing connections."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _executable(installation: Installation, folder: Path) -> Path:
    if os.access(installation.executable, os.X_OK):
        return installation.executable
    copy = folder / "tritonserver"  # an installer that dropped the executable bit
    shutil.copyfile(installation.executable, copy)
    copy.chmod(0o755)
    return copy


def _backends(installation: Installation, folder: Path) -> Path:
    """A backend directory with the stub of this Python beside the Python backend, and onnxruntime in some form."""
    if installation.stub is None and (installation.backends / "onnxruntime").is_dir():
        return installation.backends
    backends = folder / "backends"
    python = backends / "python"
    # Copied: Triton refuses a backend library that is a link out of its folder.
    shutil.copytree(installation.backends / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
    if installation.stub is not None:
        stub = python / installation.stub.name
        shutil.copyfile(installation.stub, stub)
        stub.chmod(0o755)
    (backends / "onnxruntime").mkdir()
    (backends / "onnxruntime" / "model.py").write_text(_BACKEND_MODEL_PY)
    return backends


def _environment(installation: Installation) -> dict[str, str]:
    """The server's environment: its libraries, our interpreter's packages, and one thread for every library."""
    environment = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    libraries = [str(path) for path in installation.libraries if path]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, environment.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    # The stub embeds Python and looks for "python3" on PATH to find its packages: ours must come first.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment.pop("PYTHONHOME", None)
    # glibc gives the memory of each decoded picture back and faults it in again: half of a pre step's time, mallopt(3).
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(64 * 2**20))
    return environment


def _rotating_log(path: Path) -> logging.Logger:
    path.parent.mkdir(parents=True, exist_ok=True)
    log = logging.getLogger(f"tritonserver.{path}")
    log.setLevel(logging.INFO)
    log.propagate = False
    if not log.handlers:
        log.addHandler(logging.handlers.RotatingFileHandler(path, maxBytes=4_000_000, backupCount=3, delay=True))
    return log
