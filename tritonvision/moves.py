"""Folders of a model repository change their names together: all of them or none, also where the process is killed.

Before the first rename a journal is written into the staging folder of whoever publishes; when the last one is done it
is removed, and from then on they count. Whoever locks the repository next (:func:`tritonvision.publication.locked`)
and finds a journal knows that its writer is gone, since that one held the lock: where every rename was done the journal
is removed, else the renames are taken back. A folder is known again by its inode, so neither renames that were taken
back already nor a second death do harm.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

STAGING = ".staging"
_JOURNAL = "journal.json"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EPERM, errno.ENOTSUP}


@dataclass(frozen=True)
class _Move:
    """One rename.

    Attributes:
        source, target: a folder, and the name it gets.
        exchange: whether ``target`` is there before, and gets the name ``source``.
        inode: of the folder that is ``source`` before.
    """

    source: Path
    target: Path
    exchange: bool
    inode: int

    def do(self) -> None:
        if self.exchange:
            exchange(self.source, self.target)
        else:
            self.source.rename(self.target)

    def done(self) -> bool:
        """Whether ``target`` names the folder that was ``source``."""
        return _inode(self.target) == self.inode and not _aside(self.source).exists()

    def undo(self) -> None:
        """Take it back, whole or half done."""
        aside = _aside(self.source)
        if aside.exists():  # an exchange by way of a third name
            if _inode(self.target) == self.inode:
                self.target.rename(self.source)
            if not self.target.exists():
                aside.rename(self.target)
        elif _inode(self.target) == self.inode:
            if self.exchange:
                exchange(self.source, self.target)
            else:
                self.target.rename(self.source)


def move_together(moves: Sequence[tuple[Path, Path]], folder: Path) -> None:
    """Rename each folder to its target, in order; one that is there already gets the former name of the other.

    The caller holds the lock of the repository.

    Args:
        folder: of :func:`tritonvision.staging.staging_folder`; sources or targets lie in it.

    Raises:
        OSError: a rename failed; all are as they were.
    """
    wanted = [_Move(source, target, target.exists(), os.stat(source).st_ino) for source, target in moves]
    if not wanted:
        return
    for move in wanted:
        if move.source.is_relative_to(folder):
            _to_disk(move.source)
    journal = _write(folder, wanted)
    with ExitStack() as failed:
        failed.callback(_take_back, wanted, journal)
        for move in wanted:
            move.do()
        journal.unlink()
        failed.pop_all()


def unfinished(repository: Path) -> bool:
    """Whether somebody is renaming folders of the repository, or died doing so."""
    return next(_journals(repository), None) is not None


def recover(repository: Path) -> None:
    """Finish or take back what processes that are gone began. The caller holds the lock of the repository.

    Raises:
        OSError: this process may not rename there.
    """
    for journal in _journals(repository):
        moves = _read(repository, journal)
        if all(move.done() for move in moves):
            journal.unlink()
        else:
            _take_back(moves, journal)


def _take_back(moves: Sequence[_Move], journal: Path) -> None:
    """Undo what was done of ``moves``; where that fails the journal stays, for whoever looks next."""
    for move in reversed(moves):
        move.undo()
    journal.unlink(missing_ok=True)


def is_unfinished(folder: Path) -> bool:
    """Whether a staging folder holds a journal, and so perhaps folders that belong into the repository. One that this
    user may not enter is taken to do so.
    """
    try:
        os.stat(folder / _JOURNAL)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def exchange(a: Path, b: Path) -> None:
    """Exchange the names of two folders: atomically if the system can, else through a third name."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        if renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
            return
        code = ctypes.get_errno()
        if code not in _NO_EXCHANGE:
            raise OSError(code, os.strerror(code))
    aside = _aside(a)
    with ExitStack() as undo:
        b.rename(aside)
        undo.callback(aside.rename, b)
        a.rename(b)
        undo.pop_all()
    aside.rename(a)


def _aside(source: Path) -> Path:
    return source.with_name(f"{source.name}.aside")


def _inode(path: Path) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _journals(repository: Path) -> Iterator[Path]:
    try:
        folders = list(os.scandir(repository / STAGING))
    except OSError:  # nobody publishes
        return
    for folder in map(Path, folders):
        if is_unfinished(folder):
            yield folder / _JOURNAL


def _write(folder: Path, moves: Sequence[_Move]) -> Path:
    """Write the journal; it is on the disk when this returns."""
    repository = folder.parent.parent
    told = [
        {
            "source": os.path.relpath(move.source, repository), "target": os.path.relpath(move.target, repository),
            "exchange": move.exchange, "inode": move.inode,
        }
        for move in moves
    ]  # fmt: skip
    journal, fresh = folder / _JOURNAL, folder / f"{_JOURNAL}.fresh"
    fresh.write_text(json.dumps(told))
    _sync(fresh)
    fresh.rename(journal)
    _sync(folder)
    return journal


def _read(repository: Path, journal: Path) -> list[_Move]:
    told = json.loads(journal.read_text())
    return [_Move(repository / m["source"], repository / m["target"], m["exchange"], m["inode"]) for m in told]


def _to_disk(folder: Path) -> None:
    """Have the files of a folder on the disk before it gets its name: a power cut must not leave empty ones there."""
    for path in folder.rglob("*"):
        if path.is_file():
            _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
