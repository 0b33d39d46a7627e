"""Publishes missing models first, by ``tritonvision export`` or ``import`` in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from tritonvision import catalog
from tritonvision.commands import command, failure
from tritonvision.errors import (
    InvalidParameter,
    UnknownModel,
)
from tritonvision.publication import Manifest, Repository

_CONFIG, _MODULE = "model_config.json", "model.py"
# Characters that ids cannot have, and runs of dots, dashes or underscores.
_UNSPELT = re.compile(r"(?:[^A-Za-z0-9._]|\.{2,}|_{2,})+")
_INTERRUPTED = 130
_GRACE_SECONDS = 10

_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


def ensure_published(repository: Path, name: str, say: Callable[[str], None]) -> Manifest:
    """The model called ``name``, exported with its released weights unless it is published; also those it depends on.

    Args:
        say: called with a sentence when an export begins.

    Raises:
        UnknownModel: there is no such model.
        BrokenModel: what is published in its place cannot be read, and no export replaces it.
        ExportFailed, SetupError, NotSupported: with the message of the export.
    """
    here = Repository(repository)
    try:
        manifest = here.resolve(name)
    except UnknownModel:
        entry = catalog.find(catalog.canonical(name))
        with _locks[entry.id]:
            if here.get(entry.id) is None:
                say(f"'{entry.id}' is not published here: it is exported now, which takes a while.")
                run_command("export", entry.id, "--repository", str(repository))
        manifest = here.resolve(entry.id)
    for need in manifest.needs:
        ensure_published(repository, need, say)
    return manifest


def import_package(repository: Path, folder: Path, allow_code: bool) -> str:
    """The id under which the package or ONNX file ``folder`` is published; an unchanged one is not published again.

    Raises:
        InvalidParameter: it brings code, and ``allow_code`` is False.
        ExportFailed, SetupError: with the message of the import.
    """
    if brings_code(folder) and not allow_code:
        raise InvalidParameter(
            f"The package '{folder.name}' brings code of its own, which runs only where that is allowed.",
            hint="Read it, and pass allow_local_code_packages=True if you trust it.",
        )
    model_id = local_id(folder)
    allowed = ("--allow-local-code",) if allow_code else ()
    with _locks[model_id]:
        run_command("import", str(folder.resolve()), "--as", model_id, *allowed, "--repository", str(repository))
    return model_id


def brings_code(folder: Path) -> bool:
    """Whether the package is code: it has a ``model.py``, or its ``model_config.json`` names another module."""
    if (folder / _MODULE).is_file():
        return True
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):  # the import reports what is wrong with it
        return False
    return isinstance(config, dict) and any(config.get(key) for key in ("model_module", "model_class"))


def local_id(folder: Path) -> str:
    """``local/NAME/DIGEST``: the folder's name in characters of ids, and eight hex digits of its path's hash."""
    path = str(folder.resolve())
    name = _UNSPELT.sub("-", folder.resolve().name).strip("-._")[:60].strip("-._") or "package"
    return f"local/{name}/{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def run_command(*arguments: str) -> None:
    """Run ``tritonvision`` with ``arguments``. At a terminal its progress is seen; Ctrl-C ends it.

    Raises:
        ExportFailed, InvalidParameter, SetupError: it failed; message and hint are those of the command.
    """
    line = command(*arguments)
    status, text = _watched(line) if sys.stderr is not None and sys.stderr.isatty() else _captured(line)
    if status == _INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise failure(status, text)


def _captured(line: Sequence[str]) -> tuple[int, str]:
    """Exit status and standard error."""
    with _started(line, subprocess.PIPE) as process:
        text = process.stderr.read().decode("utf-8", "replace")
    return process.returncode, text


def _watched(line: Sequence[str]) -> tuple[int, str]:
    """As :func:`_captured`, with the process on a terminal whose output is copied to ours."""
    ours, theirs = pty.openpty()
    with contextlib.suppress(OSError):
        size = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
    said = bytearray()
    try:
        with _started(line, theirs) as process:
            os.close(theirs)
            theirs = -1
            while part := _read(ours):
                said += part
                sys.stderr.buffer.write(part)
                sys.stderr.buffer.flush()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)
    return process.returncode, said.decode("utf-8", "replace")


def _read(terminal: int) -> bytes:
    """The next piece, empty at the end, where Linux raises an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@contextlib.contextmanager
def _started(line: Sequence[str], stderr: int):
    """The process, which is stopped at the end of the block."""
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, start_new_session=True
    )
    try:
        yield process
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()
        raise
