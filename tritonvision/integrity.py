"""Checks the files of a published model against the hashes in its manifest."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from tritonvision import moves
from tritonvision.errors import BrokenModel, ModelLoading, ServerUnavailable
from tritonvision.publication import Manifest, Repository, locked
from tritonvision.variants import Variant

log = logging.getLogger(__name__)


def check_files(repository: Repository, manifest: Manifest, variant: Variant | None = None) -> None:
    """Compare the files of a published model with its manifest. Unchanged size, time and inode skip the reading.

    Args:
        variant: whose files are compared, too.

    Raises:
        BrokenModel: a file is missing or changed.
        ModelLoading: the model was published again meanwhile.
        ServerUnavailable: the repository is not there, as while a mount is lost.
    """
    files = {**manifest.files, **(variant.files if variant else {})}
    if not moves.unfinished(repository.root) and _wrong(repository.root, files) is None:
        return
    try:
        with locked(repository.root):  # a concurrent publication has now replaced all folders or none
            if repository.get(manifest.id) is not manifest:
                raise ModelLoading(f"Model {manifest.id} was just published again.", retry_after=1)
            wrong = _wrong(repository.root, files)
    except OSError as error:
        log.error("The model repository %s cannot be read: %s.", repository.root, error.strerror)
        raise ServerUnavailable("The model repository cannot be read now.", retry_after=5) from error
    if wrong is not None:
        log.error("%s is not what was published: %s.", manifest.id, wrong)
        raise BrokenModel(
            f"The files of '{manifest.id}' are not those that were published: {wrong}.",
            hint="Publish it again with --force.",
        )


def _wrong(root: Path, files: Mapping[str, str]) -> str | None:
    """What is wrong with the first file that is not as it should be."""
    for name, published in files.items():
        try:
            about = os.stat(root / name)
            if digest(f"{root}/{name}", about.st_size, about.st_mtime_ns, about.st_ino) != published:
                return f"{name} has changed"
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
    return None


@functools.lru_cache(maxsize=1024)
def digest(path: str, size: int, mtime_ns: int, inode: int) -> str:
    """sha256 of the file, hex; kept while its size, time and inode stay."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
