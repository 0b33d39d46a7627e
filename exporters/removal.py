"""Removing a model from a repository: like publishing, all of it or nothing."""

from __future__ import annotations

from pathlib import Path

from tritonvision.errors import InvalidParameter, SetupError
from tritonvision.exporters.publish import put_in_place, staging
from tritonvision.publication import Manifest, Repository, locked


def remove(repository: Repository, manifest: Manifest) -> int:
    """Take the entry points and networks of a published model out of ``repository``; steps, which are shared, stay.

    Returns:
        The bytes of the files that went.

    Raises:
        InvalidParameter: another published model asks this one.
        SetupError: the repository cannot be written; it is then as it was.
    """
    askers = [other.id for other in repository if manifest.id in other.needs]
    if askers:
        raise InvalidParameter(
            f"'{manifest.id}' is asked by {' and '.join(askers)}, so it stays.",
            hint=f"Remove that first: tritonvision remove {' '.join(askers)}",
        )
    folders = _folders(repository.root, manifest)
    freed = sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())
    try:
        # Renamed before anything is deleted; the model itself goes first, and with it what makes the rest known.
        with staging(repository.root) as aside, locked(repository.root):
            put_in_place([], aside, folders)
    except OSError as error:
        raise SetupError(
            f"'{manifest.id}' could not be removed, and the repository is as it was.", hint="Look at its rights."
        ) from error
    return freed


def _folders(root: Path, manifest: Manifest) -> list[Path]:
    """The model's own folders, and an engine behind it. An id has no ``--`` in it, so no other model's are found."""
    name = manifest.triton_name
    own = (root / triton_name for triton_name in manifest.triton_names)
    networks = [root / f"net--{name}", *sorted(root.glob(f"net--{name}--*"))]
    return [folder for folder in (*own, *networks, root / f"engine--{name}") if folder.is_dir()]
