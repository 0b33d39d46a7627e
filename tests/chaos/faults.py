"""What goes wrong, one :class:`Fault` each: how it is brought about, undone, and known to be over."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from crowd import Crowd
from house import CLASSES, NET, POST, PRE, House, gone, kill

_STEPS = (PRE, NET, POST)
_LEAVING = 100
_JUMPS = (3600, -86400)


@dataclass
class Scene:
    """Where a fault happens.

    Attributes:
        house: the server that is asked.
        crowd: its callers.
        folder: for files.
        private: whether mounts are this process's own, see run.py.
        number: of strikes before this one.
        victims: processes that have to be gone before it is over.
        known: what a strike remembers for its end.
    """

    house: House
    crowd: Crowd
    folder: Path
    private: bool
    number: int = 0
    victims: list[int] = field(default_factory=list)
    known: dict[str, str] = field(default_factory=dict)

    def hit(self, model: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process of a Triton model; it has to be gone in the end."""
        victim = self.house.stub(model, self.number).pid
        self.victims.append(victim)
        kill(victim, number)


def _nothing(scene: Scene) -> None:
    pass


def _whole(scene: Scene) -> bool:
    return gone(scene.victims) and scene.house.whole()


@dataclass(frozen=True)
class Fault:
    """One kind.

    Attributes:
        what: happens, for the table.
        strike: brings it about.
        lasts: seconds until ``undo``.
        over: whether everything is as before.
        tolerated: statuses of requests that nobody else could answer; with another one, none may fail.
        most: times at most, of a fault that takes long.
        needs: why it cannot be brought about here, a sentence; empty where it can.
        foreign: the server asks the tritonserver of another one.
    """

    what: str
    strike: Callable[[Scene], None]
    undo: Callable[[Scene], None] = _nothing
    lasts: float = 0.0
    over: Callable[[Scene], bool] = _whole
    tolerated: Collection[int] = ()
    most: int = 1000
    needs: Callable[[bool], str] = lambda private: ""
    foreign: bool = False


def _mounts(private: bool) -> str:
    return "" if private else "It mounts small file systems, which needs root or user namespaces."


def _kill_one(scene: Scene) -> None:
    scene.hit(_STEPS[scene.number % 3])


def _wear(scene: Scene) -> None:
    """Processes are killed while they work, forty at most, until a second tritonserver is being started."""
    scene.known["uuid"] = scene.house.uuid()
    for number in range(40):
        scene.hit(_STEPS[number % 3])
        if scene.house.wait(lambda: len(scene.house.tritons()) > 1, 0.5):
            return
        assert scene.house.wait(lambda: len(scene.house.tritons()) > 1 or _whole(scene)), "one was not replaced"
    assert scene.house.wait(lambda: len(scene.house.tritons()) > 1, 20), "it is not worn after forty"


def _kill_server(scene: Scene) -> None:
    triton = scene.house.triton()
    assert triton is not None
    scene.victims.append(triton)
    kill(triton)


def _told(fault: str) -> dict[str, Callable]:
    def strike(scene: Scene) -> None:
        scene.house.tell(fault)

    def over(scene: Scene) -> bool:
        return scene.house.told(fault) and scene.house.whole()

    return {"strike": strike, "over": over}


def _stall(scene: Scene) -> None:
    scene.known["before"] = " ".join(str(scene.house.stub(PRE, number).pid) for number in (0, 1))
    scene.house.tell("stall")


def _stalled_is_replaced(scene: Scene) -> bool:
    return any(gone([int(pid)]) for pid in scene.known["before"].split()) and scene.house.whole()


def _short_of_memory(bytes_more: int) -> Callable[[Scene], None]:
    def limit(scene: Scene) -> None:
        """A process of the network may have no more memory than it has: its next allocations fail."""
        victim = scene.house.stub(NET, scene.number).pid
        has = int(Path(f"/proc/{victim}/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        scene.known["limited"] = str(victim)
        resource.prlimit(victim, resource.RLIMIT_AS, (has + bytes_more, resource.RLIM_INFINITY))

    return limit


def _enough_memory(scene: Scene) -> None:
    with contextlib.suppress(ProcessLookupError):
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(int(scene.known["limited"]), resource.RLIMIT_AS, unlimited)


def fill(folder: Path) -> None:
    """Write a file until the file system of ``folder`` is full."""
    with (folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
            return


def _full(folder_of: Callable[[Scene], Path], and_kill: bool) -> dict[str, Callable]:
    def strike(scene: Scene) -> None:
        fill(folder_of(scene))
        if and_kill:
            _kill_one(scene)

    def undo(scene: Scene) -> None:
        (folder_of(scene) / "filler").unlink()

    return {"strike": strike, "undo": undo, "needs": _mounts}


def _jump(scene: Scene) -> None:
    """Heartbeats carry the time of a clock that jumped: the one time of the day that processes compare.

    The clock of the machine is not touched, and a clock of single processes (libfaketime) breaks waits that are right.
    """
    then = time.time() + _JUMPS[scene.number % len(_JUMPS)]
    for beat in scene.house.temporary.glob("tritonvision-server-*/server/[0-9]*"):
        with contextlib.suppress(FileNotFoundError):
            os.utime(beat, (then, then))


def _remount(how: str) -> Callable[[Scene], None]:
    def mount(scene: Scene) -> None:
        root = str(scene.house.repository)
        if "bound" not in scene.known:
            scene.known["bound"] = root
            subprocess.run(["mount", "--bind", root, root], check=True)
        subprocess.run(["mount", "-o", f"remount,bind,{how}", root], check=True)
        if how == "ro":
            _kill_one(scene)

    return mount


def _take_away(scene: Scene) -> None:
    scene.house.repository.rename(scene.folder / "elsewhere")
    _kill_one(scene)


def _bring_back(scene: Scene) -> None:
    (scene.folder / "elsewhere").rename(scene.house.repository)


def _classify(scene: Scene) -> int:
    """The status of a request to the other model."""
    body = json.dumps({"model_id": CLASSES, "image": {"type": "base64", "value": _PIXEL}}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{scene.house.port}/infer/classification", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


_PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _corrupt(scene: Scene) -> None:
    graph = scene.house.repository / f"net--{CLASSES}" / "1" / "model.onnx"
    graph.rename(scene.folder / "graph")
    graph.write_bytes(os.urandom(1000) if scene.number % 2 else (scene.folder / "graph").read_bytes()[:-1000])
    body = json.dumps({"model_id": CLASSES}).encode()
    urllib.request.urlopen(
        urllib.request.Request(
            f"http://127.0.0.1:{scene.house.port}/model/remove", body, {"Content-Type": "application/json"}
        ), timeout=60,
    ).close()  # fmt: skip
    assert _classify(scene) >= 400, "a damaged model answered"


def _mend(scene: Scene) -> None:
    (scene.folder / "graph").rename(scene.house.repository / f"net--{CLASSES}" / "1" / "model.onnx")


def _second_server(scene: Scene) -> None:
    """Another server on the same repository, killed."""
    folder = scene.folder / "second"
    folder.mkdir(exist_ok=True)
    if not (folder / "models").exists():
        (folder / "models").symlink_to(scene.house.repository)
    with House(folder, None) as second:
        scene.victims += second.family()
        assert second.whole()
        second.kill()


def _next_server(scene: Scene) -> None:
    """Start the second server once more, and end it as one does: it cleans up after the killed one."""
    with House(scene.folder / "second", None):
        pass


def _hang_up(scene: Scene) -> None:
    """Many callers send a request and hang up at once."""
    for _ in range(_LEAVING):
        with socket.create_connection(("127.0.0.1", scene.house.port), 5) as caller:
            caller.sendall(scene.crowd.messages[0])


def _upgrade(scene: Scene) -> None:
    scene.known["uuid"] = scene.house.uuid()
    kill(scene.house.process.pid, signal.SIGUSR2)


def _upgraded(scene: Scene) -> bool:
    if len(scene.house.tritons()) != 1:
        return False
    return scene.house.uuid() not in ("", scene.known["uuid"]) and scene.house.whole()


def _upgrade_in_vain(scene: Scene) -> None:
    """The new process cannot load what the old one serves."""
    graph = scene.house.repository / NET / "1" / "model.onnx"
    graph.rename(scene.folder / "graph")
    graph.write_bytes((scene.folder / "graph").read_bytes()[:-1000])
    scene.known["uuid"] = scene.house.uuid()
    kill(scene.house.process.pid, signal.SIGUSR2)
    said = Path(scene.house.log.name)
    assert scene.house.wait(lambda: said.read_text().count("the old one goes on") > scene.number, 90)


def _graph_again(scene: Scene) -> None:
    (scene.folder / "graph").rename(scene.house.repository / NET / "1" / "model.onnx")


def _not_upgraded(scene: Scene) -> bool:
    return len(scene.house.tritons()) == 1 and scene.house.uuid() == scene.known["uuid"] and scene.house.whole()


def _answers_again(scene: Scene) -> bool:
    began = time.monotonic()
    return scene.house.wait(lambda: scene.crowd.answered_since(began), 30)


FAULTS = {
    "kill": Fault("a Python process is killed (SIGKILL)", _kill_one),
    "kill-server": Fault("the tritonserver is killed", _kill_server),
    "hang": Fault("a process is stopped (SIGSTOP)", lambda scene: scene.hit(_STEPS[scene.number % 3], signal.SIGSTOP)),
    "stall": Fault("a step never returns", _stall, most=2, over=_stalled_is_replaced),
    "exit": Fault("a step exits in the middle of a request", **_told("exit")),
    "raise": Fault("a step raises what nobody foresaw", **_told("raise")),
    "raise-in-execute": Fault("the same in Triton's own hook", **_told("raise-in-execute")),
    "memory": Fault("a step gets no memory", **_told("memory")),
    "memory-limit": Fault(
        "a process may take no more memory", _short_of_memory(2**20), undo=_enough_memory, lasts=2
    ),
    "disk-full": Fault(
        "the disk of logs and temporary files is full, and a process is killed", lasts=3,
        **_full(lambda scene: scene.house.temporary, and_kill=True),
    ),
    "shm-full": Fault("/dev/shm is full", lasts=3, **_full(lambda scene: Path("/dev/shm"), and_kill=False)),
    "shm-full-kill": Fault(
        "/dev/shm is full, and a process is killed", lasts=3, **_full(lambda scene: Path("/dev/shm"), and_kill=True)
    ),
    "clock": Fault("the clock jumps an hour ahead, or a day back", _jump, lasts=7),
    "read-only": Fault(
        "the repository becomes read-only, and a process is killed", _remount("ro"), undo=_remount("rw"), lasts=2,
        needs=_mounts,
    ),
    "vanished": Fault("the repository vanishes, and a process is killed", _take_away, undo=_bring_back, lasts=4),
    "corrupt": Fault(
        "another model's graph is damaged", _corrupt, undo=_mend, over=lambda scene: _classify(scene) == 200
    ),
    "two-servers": Fault(
        "a second server on the same repository is killed, and starts again", _second_server, undo=_next_server
    ),
    "foreign": Fault(
        "somebody else's tritonserver goes away and comes back", lambda scene: kill(int(scene.known["foreign"])),
        over=_answers_again, tolerated=(502, 503), foreign=True,
    ),
    "hang-up": Fault("a hundred callers hang up", _hang_up, over=_answers_again),
    "upgrade": Fault("the server is replaced in flight (SIGUSR2)", _upgrade, over=_upgraded),
    "worn": Fault("processes are killed until the tritonserver keeps too much of them", _wear, over=_upgraded, most=2),
    "upgrade-in-vain": Fault(
        "its successor cannot load a model", _upgrade_in_vain, undo=_graph_again, over=_not_upgraded
    ),
}  # fmt: skip
