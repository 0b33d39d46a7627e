"""What the embedded tritonserver and its Python processes may reach, and whether a repository lets them be confined.

They read the system, Python's packages and the model repository, and write to the folder of the run and to shared
memory. People's files, temporary files of others and the state of the system are not theirs.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tritonvision.server.locate import Installation
from tritonvision.server.sandbox import Rules

REPORT = "walls"  # in the folder of the server: those that hold, as the sandbox wrote them
# Folders of the system that hold what is not the system's, or what only the administrator should read.
_CLOSED = {
    "/": {"boot", "dev", "home", "lost+found", "media", "mnt", "root", "run", "srv", "tmp", "var"},
    "/etc": {"docker", "gshadow", "gshadow-", "kubernetes", "shadow", "shadow-", "ssh", "sudoers", "sudoers.d"},
    "/etc/ssl": {"private"},
}
_DEVICES = (
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/nvidia*", "/dev/nvidia-caps/*",
    "/dev/nvhost*", "/dev/nvmap", "/dev/dxg", "/dev/dri/*", "/dev/accel/*",
)  # fmt: skip
# Variables that let somebody in somewhere; none of the processes needs one.
_SECRET = re.compile(r"(KEYS?|TOKENS?|SECRETS?|PASSWORDS?|PASSWD|CREDENTIALS?)(_|$)", re.IGNORECASE)
_OUR_SECRET = re.compile(r"^(ROBOFLOW|DATATURE)_.*KEY", re.IGNORECASE)
_MPS = "/tmp/nvidia-mps"  # where CUDA looks for a server that shares a GPU
_OURS = re.compile(r"^from tritonvision\.python_backend\.(?!local_code\b)\w+ import TritonPythonModel\b", re.MULTILINE)


def is_own_code(model: Path) -> bool:
    """Whether the model in this folder of a repository is code of a user's own.

    What such code needs (a network, a cache in the home folder) is not known, so its server is not confined.
    """
    for path in model.glob("*/model.py"):
        try:
            if not _OURS.search(path.read_text(errors="replace")):
                return True
        except OSError:  # gone meanwhile, or not to be read: Triton will not run it either
            continue
    return False


def holds_own_code(repository: Path) -> bool:
    """Whether a model of ``repository`` is code of a user's own."""
    return any(map(is_own_code, repository.glob("*")))


def rules(
    installation: Installation, executable: Path, repository: Path, folder: Path, environment: Mapping[str, str]
) -> Rules:  # fmt: skip
    """What a server may reach.

    Args:
        executable: that is run, which may be a copy.
        folder: of the server, see :class:`tritonvision.server.process.TritonProcess`.
        environment: the server's.
    """
    home = environment.get("HOME", "")
    cuda = environment.get("CUDA_CACHE_PATH") or (os.path.join(home, ".nv") if home else "")
    mps = environment.get("CUDA_MPS_PIPE_DIRECTORY") or _MPS
    connect = os.path.isdir(mps)
    return Rules(
        read=tuple(dict.fromkeys(_readable(installation, executable, repository, environment))),
        write=tuple(filter(None, (str(folder), "/dev/shm", cuda, mps if connect else ""))),
        folders=("/tmp",),  # where the Python backend makes an empty one when it is loaded, and removes it at its end
        devices=tuple(path for pattern in _DEVICES for path in sorted(glob.glob(pattern)) if not os.path.isdir(path)),
        connect=connect,
        report=str(folder / REPORT),
    )


def environment_of(ours: Mapping[str, str], confined: bool) -> dict[str, str]:
    """What is handed on of our own environment: none of our settings and keys.

    A confined server gets no password, token or key of others either; a user's own code may need one.
    """
    closed = _SECRET if confined else _OUR_SECRET
    return {
        name: value for name, value in ours.items()
        if not closed.search(name) and not name.upper().startswith("TRITONVISION_")
    }  # fmt: skip


def _readable(
    installation: Installation, executable: Path, repository: Path, environment: Mapping[str, str]
) -> Iterator[str]:
    for folder, closed in _CLOSED.items():
        for name in _names(folder):
            path = os.path.join(folder, name)
            if name not in closed and path not in _CLOSED:
                yield path
    home = os.path.join(environment.get("HOME") or "/", "")
    for needed in _needed(installation, executable, repository, environment):
        path = os.path.realpath(needed)
        if not home.startswith(os.path.join(path, "")):  # a variable may name a folder of everything
            yield path


def _needed(
    installation: Installation, executable: Path, repository: Path, environment: Mapping[str, str]
) -> Iterator[str | Path]:
    root = installation.executable.resolve().parent
    yield from (executable, installation.backends, root, root.parent / "lib", *installation.libraries)
    yield from (sys.prefix, sys.base_prefix, *package_folders())
    yield from (path for path in sys.path if os.path.basename(path) in ("site-packages", "dist-packages"))
    for variable in ("LD_LIBRARY_PATH", "PYTHONPATH"):
        yield from filter(None, environment.get(variable, "").split(os.pathsep))
    yield from filter(None, re.split(r"[\s:]", environment.get("LD_PRELOAD", "")))
    yield repository
    yield from _led_out_of(repository.resolve())


def _names(folder: str) -> Iterable[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return ()


def package_folders() -> Iterator[str]:
    """Where this package is, which in a checkout is several folders."""
    for name in ("tritonvision", "tritonvision.python_backend"):
        found = importlib.util.find_spec(name)
        if found is not None and found.submodule_search_locations:
            yield from found.submodule_search_locations


def _led_out_of(repository: Path) -> Iterator[Path]:
    """What links in ``repository`` lead to outside of it: weights may lie on another disk."""
    for folder, folders, files in os.walk(repository):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                there = Path(os.path.realpath(path))  # unlike resolve, also of a link that leads to itself
                if not there.is_relative_to(repository):
                    yield there
