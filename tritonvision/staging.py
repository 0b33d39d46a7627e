"""Folders below a model repository in which new versions of models are put together before they count."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tritonvision.moves import STAGING, is_unfinished
from tritonvision.publication import locked


@contextmanager
def staging_folder(repository: Path) -> Iterator[Path]:
    """A folder below ``repository``, removed when the block ends; if the process dies, by whoever stages next.

    Where it holds a journal of renames that could be neither finished nor taken back it stays, see
    :mod:`tritonvision.moves`: models may lie in it.

    Raises:
        OSError: the repository cannot be written.
    """
    root = repository / STAGING
    with locked(repository):
        root.mkdir(exist_ok=True)
        _sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        owner = os.open(folder, os.O_RDONLY)
        fcntl.flock(owner, fcntl.LOCK_EX)  # a lock that marks the folder as in use while the process lives
    try:
        yield folder
    finally:
        with locked(repository):
            os.close(owner)
            if not is_unfinished(folder):
                shutil.rmtree(folder, ignore_errors=True)
            _remove_if_empty(root)


def _sweep(root: Path) -> None:
    """Remove the staging folders of processes that are gone."""
    for folder in root.iterdir():
        try:
            owner = os.open(folder, os.O_RDONLY)
        except PermissionError:  # another user's, who may still be there
            continue
        try:
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        finally:
            os.close(owner)
        if not is_unfinished(folder):  # what could not be taken back is still to be
            shutil.rmtree(folder, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # somebody else is building there
        return
