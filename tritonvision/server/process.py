"""One tritonserver process of our own: started, awaited, stopped; its log goes to a rotating file."""

from __future__ import annotations

import compileall
import contextlib
import json
import logging
import logging.handlers
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tritonvision import heartbeat, kept_prompts, step_reports
from tritonvision.errors import SetupError
from tritonvision.server import sandbox, walls
from tritonvision.server.control import Control
from tritonvision.server.locate import Installation

log = logging.getLogger(__name__)

_START_SECONDS = 60.0
_EXIT_SECONDS = 5
_OWN_BACKENDS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "chain": "Ensembles around a network"}
_BACKEND_MODEL_PY = '''"""{title} as a Python-based backend."""

from tritonvision.python_backend.{name}_backend import TritonPythonModel  # noqa: F401
'''

_LOG_MODE = 0o640
_FOLDER, _SOCKET, _TEMPORARY = "server", "grpc", "tmp"
# The prefix of a line of Triton's log: severity, date, time, thread and source line.
_PREFIX = re.compile(r"(?P<severity>[IWEF])\d{4} \S+ \d+ \S+\] ?")


def address_in(run_folder: Path) -> str:
    """gRPC address of the server that lives in ``run_folder``, the same for each that is started there."""
    return f"unix:{run_folder / _FOLDER / _SOCKET}:1"


class TritonProcess:
    """A running tritonserver that dies with the thread that started it.

    It listens on a Unix socket in a folder that only this user can enter: its clients can load models, and so run code.
    A port on loopback is open to every user of the machine, and a secret in the arguments can be read by all.

    Args:
        run_folder: of a :class:`RunFolder`; holds the server's files until it is stopped.
        kept: ``kept_prompts`` of :class:`tritonvision.settings.Settings`, bytes.
        confined: whether it and its processes are put behind the walls that :mod:`tritonvision.server.walls` draws.

    Attributes:
        folder: holds the heartbeats of its processes, see :mod:`tritonvision.heartbeat`.
        confined: as given.
        control: admin calls.
        steps: what its Python steps tell of single requests.
        log_file: where its lines go, or None where they go to standard error.

    Raises:
        SetupError: the folder cannot be filled, or no process can be started.
    """

    def __init__(
        self, installation: Installation, repository: Path, log_file: Path, run_folder: Path, kept: int,
        confined: bool = True,
    ):  # fmt: skip
        self.folder, self.confined = run_folder / _FOLDER, confined
        with ExitStack() as undo:
            undo.callback(shutil.rmtree, self.folder, ignore_errors=True)
            try:
                self.folder.mkdir(mode=0o700)
                (self.folder / _TEMPORARY).mkdir()
                # A name without spaces: Triton starts no Python process below a folder with a space in its name.
                (self.folder / "repository").symlink_to(repository.resolve())
                executable, backends = _executable(installation, self.folder), _backends(installation, self.folder)
                self._owner = heartbeat.make_owner(self.folder)
                undo.callback(os.close, self._owner)
                self.steps = step_reports.Pipe(self.folder)
                undo.callback(self.steps.close)
            except OSError as error:
                raise SetupError(
                    f"The files of the running server cannot be written to {run_folder}: {error.strerror}.",
                    hint="Let TMPDIR name a folder that is fit.",
                ) from error
            self._begin(installation, executable, backends, repository, log_file, kept)
            undo.pop_all()
        self._pump = threading.Thread(target=self._pump_log, daemon=True, name="tritonserver-log")
        self._pump.start()
        self.control = Control(address_in(run_folder))

    def _begin(
        self, installation: Installation, executable: Path, backends: Path, repository: Path, log_file: Path, kept: int
    ) -> None:
        """Start the process. Raises SetupError."""
        self._last_error = ""
        self.log_file = _ready_log(log_file)
        self._log = _logger(self.log_file)
        environment = _environment(installation, self.folder, kept, self.confined)
        if self.confined:  # its processes cannot write our modules' bytecode, and would compile them at each start
            for package in walls.package_folders():
                compileall.compile_dir(package, quiet=2)
        allowed = walls.rules(installation, executable, repository, self.folder, environment) if self.confined else None
        command = [
            # ends the server with the thread that began it, and puts it behind its walls
            *(sys.executable, "-I", "-S", sandbox.__file__, json.dumps(allowed and asdict(allowed))),
            str(executable),
            f"--model-repository={self.folder / 'repository'}",
            f"--backend-directory={backends}",
            "--model-control-mode=explicit",
            "--disable-auto-complete-config",
            "--allow-http=false",
            "--allow-metrics=false",
            f"--grpc-address=unix:{self.folder / _SOCKET}",
            "--grpc-port=1",  # it becomes a part of the socket's name
            f"--exit-timeout-secs={_EXIT_SECONDS}",
        ]
        try:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in the terminal is handled by us
            )  # fmt: skip
        except OSError as error:  # no memory or no process is left
            raise SetupError(f"tritonserver cannot be started: {error.strerror}.") from error

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @property
    def log_hint(self) -> str:
        """A sentence that names the log."""
        return f"Its log tells why: {self.log_file}" if self.log_file else "Its log above tells why."

    @property
    def walls(self) -> list[str]:
        """The walls around it that hold, once it runs: see :mod:`tritonvision.server.sandbox`."""
        try:
            return json.loads((self.folder / walls.REPORT).read_text())
        except (OSError, ValueError):
            return []

    def running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def wait_live(self) -> None:
        """Return once the server answers. Raises SetupError when it ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not self.control.live():
            if not self.running():
                self._pump.join(1)  # until its last line is read
                raise SetupError(f"tritonserver ended while starting. {self._last_error}".strip(), hint=self.log_hint)
            if time.monotonic() > deadline:
                raise SetupError("tritonserver did not answer within a minute.", hint=self.log_hint)
            time.sleep(0.05)

    def stop(self, gently: bool) -> None:
        """End the process; ``gently`` lets it finish running requests, which a server that lost a stub cannot."""
        if self.running() and gently:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_EXIT_SECONDS + 2)
        if self.running():
            self._process.kill()
        self._process.wait()
        os.close(self._owner)  # whatever is left of its steps is killed
        self.control.close()
        self.steps.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _pump_log(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        with stdout as lines:
            for line, serious in weighed(raw.decode("utf-8", "replace").rstrip() for raw in lines):
                if serious:
                    self._last_error = _PREFIX.sub("", line)
                if serious or self.log_file is not None:
                    self._log.info(line)


def weighed(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Lines of Triton's log, each with whether it is (a part of) an error."""
    serious = True  # output before the log begins, e.g. of a missing library
    for line in lines:
        begin = _PREFIX.match(line)
        if begin is not None:  # else the line continues the one before
            serious = begin["severity"] in "EF"
        yield line, serious


def free_port() -> int:
    """An unused TCP port on loopback, below the range of outgoing connections."""
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


def native_engines(installation: Installation) -> bool:
    """Whether networks run on Triton's own backends, which let requests share a run; ours run each by itself."""
    return installation.stub is None and (installation.backends / "onnxruntime").is_dir()


def _backends(installation: Installation, folder: Path) -> Path:
    """A backend directory with the stub of this Python beside the Python backend, and the engines in some form."""
    if native_engines(installation):
        return installation.backends
    backends = folder / "backends"
    python = backends / "python"
    # Copied: Triton refuses a backend library that is a link out of its folder.
    shutil.copytree(installation.backends / "python", python, ignore=shutil.ignore_patterns("__pycache__"))
    if installation.stub is not None:
        stub = python / installation.stub.name
        shutil.copyfile(installation.stub, stub)
        stub.chmod(0o755)
    for name, title in _OWN_BACKENDS.items():
        (backends / name).mkdir()
        (backends / name / "model.py").write_text(_BACKEND_MODEL_PY.format(name=name, title=title))
    return backends


def _environment(installation: Installation, folder: Path, kept: int, confined: bool) -> dict[str, str]:
    """The server's environment: its libraries, our interpreter's packages, and one thread for every library."""
    environment = walls.environment_of(os.environ, confined)
    environment |= {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    if confined:
        environment["TMPDIR"] = str(folder / _TEMPORARY)
    environment[heartbeat.FOLDER_VARIABLE] = str(folder)
    environment[kept_prompts.VARIABLE] = str(int(kept))
    libraries = [str(path) for path in installation.libraries if path]
    environment["LD_LIBRARY_PATH"] = os.pathsep.join([*libraries, environment.get("LD_LIBRARY_PATH", "")]).rstrip(":")
    # The stub embeds Python and looks for "python3" on PATH to find its packages: ours must come first.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment.pop("PYTHONHOME", None)
    # glibc gives the memory of each decoded picture back and faults it in again: half of a pre step's time, mallopt(3).
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(32 * 2**20))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(64 * 2**20))
    # It has hundreds of threads, and glibc up to eight heaps for each core, which loads fill one after the other.
    environment.setdefault("MALLOC_ARENA_MAX", "2")
    return environment


def _ready_log(path: Path) -> Path | None:
    """``path`` when it can be written, its folder made where it is missing; else None, and a line that says so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, _LOG_MODE))
    except OSError as error:
        log.warning(
            "The log folder %s cannot be written (%s), so the errors of the inference server come here; "
            "TRITONVISION_LOG_DIR names another folder.", path.parent, error.strerror,
        )  # fmt: skip
        return None
    return path


class _PrivateFile(logging.handlers.RotatingFileHandler):
    """Files that other users do not read: an error of a model may quote what it was sent."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, opener=lambda path, flags: os.open(path, flags, _LOG_MODE))  # noqa: SIM115


def _logger(path: Path | None) -> logging.Logger:
    """Writes lines to the file ``path``, which rotates, or to standard error."""
    logger = logging.getLogger(f"tritonserver.{path}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(
            logging.StreamHandler() if path is None
            else _PrivateFile(path, maxBytes=4_000_000, backupCount=3, delay=True)
        )  # fmt: skip
    return logger
