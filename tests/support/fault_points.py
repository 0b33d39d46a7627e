"""Publishing and removing that are killed, or find the disk full, at every step: each touch of the file system.

A program of its own: ``fault_points.py FOLDER HOW WHAT`` with HOW ``kill`` or ``full``, WHAT ``first``, ``again``,
``again-by-a-third-name`` or ``remove``. It forks for each point, lets the child do WHAT over a fresh copy of a
repository until that point, and prints a JSON line about what is left.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tritonvision import catalog, moves
from tritonvision.errors import ModelLoading, SetupError
from tritonvision.exporters import publish, registry, removal
from tritonvision.integrity import check_files
from tritonvision.publication import Manifest, Repository

ID, NAME = "team/faces/1", "team__faces__1"
OLD_NETWORK = f"net--{NAME}--old"  # which the next version has not
_ENTRY = catalog.entries()["mediapipe-face-detection"]
_POINTS = registry.find(_ENTRY.family).entry_points(_ENTRY)
_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "shutil.move"}
_MAKES = {"os.mkdir", "os.rename", "os.link", "exchange"}
_MOST_POINTS = 400
_REFUSED = 3


def manifest(notes: str, **more: Any) -> Manifest:
    return Manifest(**{
        "id": ID, "family": "MediaPipe Face", "task": "keypoint-detection", "head": "keypoints", "weights": "user",
        "source": "x", "sha256": "0", "license": "x", "precision": "fp32", "labels": ("face",),
        "input_size": (128, 128), "steps": (f"net--{NAME}",), "notes": (notes,), **more,
    })  # fmt: skip


def put(root: Path, notes: str, **more: Any) -> None:
    with publish.staging(root) as folder:
        graph = folder / "model.onnx"
        graph.write_text(notes * 1000)
        publish.publish(root, folder, manifest(notes, **more), _POINTS, {"": graph}, golden={"q": notes.encode()})


def before(root: Path, what: str) -> None:
    """The repository as it is before: with another model's steps that no version of ours would write today."""
    root.mkdir(parents=True)
    if what == "first":
        return
    put(root, "old", steps=(f"net--{NAME}", OLD_NETWORK))
    (root / OLD_NETWORK).mkdir()
    (root / OLD_NETWORK / "file").write_text("old")
    for config in root.glob("p*--*/config.pbtxt"):
        config.write_text("of an older version")  # so that every folder changes places


def do(root: Path, what: str) -> None:
    if what == "remove":
        found = Repository(root).get(ID)
        assert found is not None
        removal.remove(Repository(root), found)
    else:
        put(root, "new")


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*") if path.is_file() and path.relative_to(root).parts[0] != moves.STAGING
    }  # fmt: skip


def install(root: Path, how: str, at: int) -> None:
    """Let the process die at its ``at``-th touch of ``root``, or find the disk full from then on."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        name = _touch(event, arguments, str(root))
        if not name:
            return
        seen += 1
        if how == "kill" and seen == at:
            print(name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "full" and name in ("write", *_MAKES) and (seen == at or (seen > at and name == "write")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sys.addaudithook(hook)


def _touch(event: str, arguments: tuple[Any, ...], root: str) -> str:
    """The kind of touch that an audit event is, empty where it is none."""
    if event == "ctypes.dlsym" and arguments[1] == "renameat2":
        return "exchange"
    if event == "fcntl.flock":
        return "lock"
    if not arguments or not str(arguments[0]).startswith(root):
        return ""
    if event == "open":
        return "write" if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else ""
    return event if event in _CHANGES else ""


def in_child(root: Path, how: str, what: str, at: int) -> int:
    """Exit status of a child that does it: negative when it was killed."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if what == "again-by-a-third-name":
        ctypes.CDLL = lambda *_, **__: object()  # type: ignore[assignment,misc]
    install(root, how, at)
    try:
        do(root, what)
    except SetupError:
        os._exit(_REFUSED)
    os._exit(0)


def look(root: Path, expected: dict[str, dict[str, bytes]]) -> dict[str, Any]:
    """What is left, as a server finds it that loads the model, and after the next export."""
    repository = Repository(root)
    seen = repository.get(ID)
    if seen is not None:
        try:
            check_files(repository, seen)  # raises BrokenModel of a half
        except ModelLoading:  # it was taken back
            seen = repository.get(ID)
            assert seen is not None
            check_files(repository, seen)
    else:
        with publish.locked(root):
            seen = repository.get(ID)
    state = seen.notes[0] if seen is not None else "none"
    whole = contents(root) == expected[state]
    with publish.staging(root):
        pass
    return {"state": state, "whole": whole, "swept": not (root / moves.STAGING).exists()}


def points(folder: Path, how: str, what: str) -> Iterator[dict[str, Any]]:
    start, end = folder / "before", folder / "after"
    before(start, what)
    shutil.copytree(start, end)
    expected = {"none" if what == "first" else "old": contents(start)}
    do(end, what)
    expected["none" if what == "remove" else "new"] = contents(end)
    for at in range(1, _MOST_POINTS):
        work = Path(shutil.copytree(start, folder / str(at)))
        status = in_child(work, how, what, at)
        yield {"at": at, "status": status, **look(work, expected)}
        shutil.rmtree(work)
        if status == 0 and how == "kill":
            return
        if status == 0 and at > 1 and _passed(folder, start, what, at):
            return


def _passed(folder: Path, start: Path, what: str, at: int) -> bool:
    """Whether a process that would be killed at this point has ended before it: there is no further one."""
    work = Path(shutil.copytree(start, folder / f"{at}-passed"))
    status = in_child(work, "kill", what, at)
    shutil.rmtree(work)
    return status == 0


if __name__ == "__main__":
    for point in points(Path(sys.argv[1]), sys.argv[2], sys.argv[3]):
        print(json.dumps(point), flush=True)
