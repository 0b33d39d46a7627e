"""Local packages: a folder of the user's becomes a published model, with code of its own only when that is allowed."""

from __future__ import annotations

from pathlib import Path

from tritonvision import catalog
from tritonvision.errors import ExportFailed, InvalidParameter
from tritonvision.exporters.packages.code import publish_code
from tritonvision.exporters.packages.files import FAMILY, INFERENCE, WEIGHTS, PackageFolder
from tritonvision.exporters.pipeline import Progress, Quiet, naming_what_is_missing
from tritonvision.publication import Manifest, Repository


def import_package(
    directory: Path, public_id: str, repository: Path, *, allow_code: bool = False, force: bool = False,
    progress: Progress | None = None,
) -> tuple[Manifest, bool]:  # fmt: skip
    """Publish the package in ``directory`` under ``public_id``.

    Args:
        allow_code: whether code that the package brings may run, in the server and to ask for its class names.
        force: publish also what is published already, and in the place of what is no package.

    Returns:
        The manifest, and whether it is fresh: an unchanged package is not published again.

    Raises:
        UnknownModel, InvalidParameter: the id cannot be one, there is no such folder, or its code may not run.
        ExportFailed: something about the package is wrong, or it does not compute what its reference computes.
        SetupError: a package of Python's is not installed, or the repository cannot be written.
    """
    catalog.check_id(public_id)
    package = PackageFolder.of(directory)
    if not package.has_code and not package.has(WEIGHTS):
        raise ExportFailed(
            "The folder holds no package.",
            hint=f"A package holds {WEIGHTS} and {INFERENCE}, or model_config.json with code of its own.",
        )
    if package.has_code and not allow_code:
        raise InvalidParameter(
            "The package brings Python code of its own, which was not allowed to run.",
            hint="Read it, and if you trust it say --allow-local-code (allow_local_code_packages=True in Python).",
        )
    existing = Repository(repository).get(public_id)
    if existing is not None and not force:
        if existing.family != FAMILY:
            raise InvalidParameter(
                f"'{public_id}' is published already and is no package.",
                hint="--force replaces it, or choose another id with --as.",
            )
        if existing.sha256 == package.digest:
            return existing, False
    if package.has_code:
        return publish_code(package, public_id, repository), True
    with naming_what_is_missing(public_id):
        from tritonvision.exporters.packages import pipeline  # needs onnx

        return pipeline.publish_graph(package, public_id, repository, progress or Quiet()), True
