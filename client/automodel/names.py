"""Names that a model is asked for by: which can be one, and which backends it would have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tritonvision import catalog
from tritonvision.client.automodel import keywords as words
from tritonvision.errors import NotSupported, UnknownModel
from tritonvision.publication import Repository
from tritonvision.settings import Settings

_MADE = ("onnx",)  # the backends that an export of this version publishes


def checked_name(name: str) -> str:
    """``name``, if it can be a model's. Raises UnknownModel, NotSupported."""
    file = Path(name)
    if name and file.is_file():
        raise NotSupported(
            f"'{file.name}' is a file; AutoModel takes ids and folders of packages.",
            hint=f"Publish weights with: tritonvision export MODEL_ID --weights {file.name} --as project/1",
        )
    if name.startswith(("/", "./", "../", "~")):
        raise UnknownModel(f"There is no folder '{name}'.", hint="'tritonvision models' lists every id.")
    return catalog.check_id(name)


def check_published(settings: Settings, name: str, backend: str | Sequence[str] | None) -> None:
    """Refuse a backend that a model does not have, and would not have after an export."""
    try:
        manifest = Repository(settings.repository).resolve(name)
    except UnknownModel:
        words.choose_backend(backend, _MADE, catalog.find(catalog.canonical(name)).id)
    else:
        words.choose_backend(backend, (manifest.backend,), manifest.id)
