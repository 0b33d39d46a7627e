"""Importing users' models: a bare ONNX file, a folder with a description, or a folder with Python code."""

from __future__ import annotations

from pathlib import Path

from tritonvision import catalog
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.packages.code import publish_code
from tritonvision.exporters.packages.files import FAMILY, INFERENCE, WEIGHTS, PackageFolder
from tritonvision.exporters.packages.options import FileOptions
from tritonvision.exporters.pipeline import Progress, Quiet, naming_what_is_missing
from tritonvision.publication import Manifest, Repository


def import_package(
    path: Path, public_id: str, repository: Path, *, options: FileOptions | None = None, allow_code: bool = False,
    force: bool = False, progress: Progress | None = None,
) -> tuple[Manifest, bool]:  # fmt: skip
    """Publish the ONNX file or the package at ``path`` under ``public_id``.

    Args:
        path: an ``.onnx`` file, or the folder of a package.
        options: facts that an ONNX file does not contain; for a folder all must be None.
        allow_code: whether the package's own code may run, in the server and here: it is asked one question about a
            picture, and for its class names where no file has them.
        force: publish also an unchanged package, and replace a published model that is no package.

    Returns:
        The manifest, and whether it is new: an unchanged package is not published again.

    Raises:
        UnknownModel, InvalidParameter: the id is not valid, ``path`` does not exist, an option has an invalid value, or
            code is not allowed to run.
        BrokenModel: something unreadable is published under the id, and ``force`` is not given.
        ExportFailed: the file or the package is not valid, or the published model does not compute what its reference
            computes.
        SetupError: a Python package is missing, or the repository cannot be written.
    """
    catalog.check_id(public_id)
    kept = None if force else Repository(repository).existing(public_id)
    if kept is not None and kept.family != FAMILY:
        raise InvalidParameter(
            f"'{public_id}' is published already and is no package.",
            hint="--force replaces it, or choose another id with --as.",
        )
    if path.is_dir():
        package = _folder(path, options, allow_code)
        if kept is not None and package.digest == kept.sha256:
            return kept, False
        if package.has_code:
            return publish_code(package, public_id, repository), True
    with naming_what_is_missing(public_id):
        from tritonvision.exporters.packages import description, onnx_file, pipeline  # need onnx

        if path.is_dir():
            described = description.of_folder(package)
        else:
            file = onnx_file.OnnxFile.of(path, options or FileOptions())
            if kept is not None and file.digest == kept.sha256:
                return kept, False
            described = file.describe()
        return pipeline.publish_graph(described, public_id, repository, progress or Quiet()), True


def _folder(path: Path, options: FileOptions | None, allow_code: bool) -> PackageFolder:
    """The package in a folder. Raises ExportFailed, InvalidParameter."""
    package = PackageFolder.of(path)
    if not package.has_code and not package.has(WEIGHTS):
        bare = next((file.name for file in sorted(path.glob("*.onnx"))), None)
        raise ExportFailed(
            "The folder holds no package.",
            hint=f"Name the file itself to import {bare[:60]!r}." if bare else
            f"A package holds {WEIGHTS} and {INFERENCE}, or model_config.json with code of its own.",
        )  # fmt: skip
    if options not in (None, FileOptions()):
        raise InvalidParameter(
            "A package describes itself, so these options have no meaning for it.",
            hint=f"They are for a bare .onnx file; change {INFERENCE} instead.",
        )
    if package.has_code and not allow_code:
        raise InvalidParameter(
            "The package brings Python code of its own, which was not allowed to run.",
            hint="Read it, and if you trust it say --allow-local-code (allow_local_code_packages=True in Python).",
        )
    return package
