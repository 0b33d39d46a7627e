"""``tritonvision serve`` over a small repository of its own, as a process that faults happen to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from tritonvision.server import stubs
from tritonvision.server.process import free_port

FACE, CLASSES = "mediapipe-face-detection", "resnet18"
PRE, NET, POST = "pre--square-128", f"net--{FACE}", "post--keypoints"
# The pre step with an ear for faults: a file of that name in the folder is a fault for whichever process takes it.
_EAR = '''"""The pre step, and the faults that it is told to have."""

import os
import time

from tritonvision.python_backend.pre import TritonPythonModel as Pre

_FOLDER = {folder!r}


def _told(fault):
    try:
        os.unlink(os.path.join(_FOLDER, fault))
    except FileNotFoundError:
        return False
    return True


class TritonPythonModel(Pre):
    def execute(self, requests):
        if _told("raise-in-execute"):
            raise RuntimeError("told to")
        return super().execute(requests)

    def answer(self, tensors, wanted):
        if _told("exit"):
            os._exit(3)
        if _told("raise"):
            raise RuntimeError("told to")
        if _told("memory"):
            raise MemoryError
        if _told("stall"):
            time.sleep(3600)
        return super().answer(tensors, wanted)
'''


def publish(source: Path, root: Path, triggers: Path, models: Sequence[str]) -> None:
    """These models out of ``source`` in a new repository ``root``; faults lie in ``triggers``."""
    triggers.mkdir()
    for model in (name.replace("/", "__") for name in models):
        manifest = json.loads((source / model / "manifest.json").read_text())
        for folder in (*manifest["steps"], model, *(f"{model}--{role}" for role in manifest["roles"] if role)):
            shutil.copytree(source / folder, root / folder, dirs_exist_ok=True)
    shutil.rmtree(root / PRE / "1" / "__pycache__", ignore_errors=True)
    (root / PRE / "1" / "model.py").unlink()  # it may be a link to a file that others read
    (root / PRE / "1" / "model.py").write_text(_EAR.format(folder=str(triggers)))


class House:
    """The server, from its start to its end. A context manager.

    Args:
        folder: for its repository, its log and its temporary files.
        source: the repository that it gets its models from; None where ``folder`` has one.
        options: of ``tritonvision serve``.
        environment: laid over ours.
        models: of ``source`` that it gets.

    Attributes:
        port: of HTTP.
        process: what was started; its id stays when the port is handed on.
        repository: its models.
    """

    def __init__(
        self, folder: Path, source: Path | None, *options: str, environment: dict[str, str] | None = None,
        models: Sequence[str] = (FACE, CLASSES),
    ):  # fmt: skip
        self.folder, self.repository = folder, folder / "models"
        self._triggers = Path("/dev/shm") / folder.name  # which its walls let its processes write to
        if source is not None:
            publish(source, self.repository, self._triggers, models)
        self.port = free_port()
        self.temporary = folder / "tmp"
        self.temporary.mkdir(exist_ok=True)
        self.log = (folder / f"serve-{self.port}.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tritonvision", "serve", FACE, "--port", str(self.port)]
            + ["--repository", str(self.repository), "--log-level", "warning", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
            env=os.environ | {
                "TMPDIR": str(self.temporary), "TRITONVISION_LOG_DIR": str(self.temporary),
                # each step in processes of its own, which are struck one by one
                "TRITONVISION_DRAIN": "1", "TRITONVISION_FUSION": "0", **(environment or {}),
            },
        )  # fmt: skip

    def __enter__(self) -> House:
        if not self.wait(self.ready, 90):
            self.kill()
            raise SystemExit(f"serve did not become ready: {Path(self.log.name).read_text()[-2000:]}")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            finally:
                self.kill()
        self.log.close()
        shutil.rmtree(self._triggers, ignore_errors=True)

    def kill(self) -> None:
        """End the process the hard way."""
        self.process.kill()
        self.process.wait()

    # ---- asking --------------------------------------------------------------------------------------------------

    def get(self, path: str) -> bytes:
        """The body of a GET. Raises OSError, of a status of 400 and more, too."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return answer.read()

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        try:
            self.get("/readiness")
        except OSError:
            return False
        return True

    def uuid(self) -> str:
        """Which process answers the port; empty where none does."""
        try:
            return json.loads(self.get("/info"))["uuid"]
        except (OSError, ValueError):
            return ""

    def whole(self) -> bool:
        """Whether it is ready and each step of the face model has its two processes; older ones may still be ending."""
        triton = self.triton()
        if triton is None or not self.ready():
            return False
        living = [stub.model for stub in stubs.of_server(triton).values() if _state(stub.pid) not in "TZ"]
        return all(living.count(model) >= 2 for model in (PRE, NET, POST))

    @staticmethod
    def wait(condition, seconds: float = 60.0) -> bool:
        """Wait until ``condition()``; False where it takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.05)
        return False

    # ---- its processes -------------------------------------------------------------------------------------------

    def family(self) -> list[int]:
        """Process ids of all below it, itself first."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            parent = _parent(int(entry.name))
            if parent is not None:
                children.setdefault(parent, []).append(int(entry.name))
        found, todo = [], [self.process.pid]
        while todo:
            found.append(todo.pop())
            todo += children.get(found[-1], [])
        return found

    def tritons(self) -> list[int]:
        """Process ids of the tritonservers below it that run, the oldest first."""
        return sorted(pid for pid in self.family() if _name(pid) == "tritonserver" and _state(pid) != "Z")

    def triton(self) -> int | None:
        """Process id of its tritonserver, the newest; None while there is none."""
        return (self.tritons() or [None])[-1]

    def serving(self) -> int | None:
        """Process id of the one whose tritonserver that is: the one that was started, until it has handed on."""
        triton = self.triton()
        return None if triton is None else _parent(triton)

    def stub(self, model: str, number: int = 0) -> stubs.Stub:
        """A process of a Triton model, one of the two newest."""
        triton = self.triton()
        assert triton is not None
        of_model = sorted((s for s in stubs.of_server(triton).values() if s.model == model), key=lambda s: s.pid)
        return of_model[-2:][number % 2]

    def tell(self, fault: str) -> None:
        """Let the next request that reaches the pre step meet ``fault``."""
        (self._triggers / fault).touch()

    def told(self, fault: str) -> bool:
        """Whether it was met."""
        return not (self._triggers / fault).exists()


def gone(pids: list[int]) -> bool:
    """Whether none of these processes runs."""
    return all(_state(pid) == "Z" for pid in pids)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; a process that is gone needs none."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return (_stat(pid) or ["Z"])[0]


def _parent(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
