"""Published models in this process, for exports of models that depend on them."""

from __future__ import annotations

from pathlib import Path

from tritonvision.ensembles import published
from tritonvision.ensembles.in_process import Ask
from tritonvision.errors import ExportFailed
from tritonvision.publication import Repository


def needed(repository: Path, model_id: str) -> Ask:
    """A function that runs the published model ``model_id`` on one encoded picture.

    Raises:
        ExportFailed: it is not published in ``repository``.
    """
    if Repository(repository).get(model_id) is None:
        raise ExportFailed(
            f"This model asks '{model_id}', which is not published here.",
            hint=f"Publish it first: tritonvision export {model_id}",
        )
    return published.asked(repository, model_id)
