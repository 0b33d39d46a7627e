"""Which published model a name means; one that the catalogue knows and that is missing may be exported."""

from __future__ import annotations

from collections.abc import Collection

from tritonvision import catalog
from tritonvision.engine.export_runner import Exports
from tritonvision.errors import InvalidParameter, NotSupported, UnknownModel
from tritonvision.publication import Manifest, Repository


class Published:
    """The published models of one engine.

    Args:
        exportable: ids of the catalogue that this version can export; None when that is not known.
        exports: runs exports of missing models; None where none are run.
    """

    def __init__(self, repository: Repository, exportable: Collection[str] | None, exports: Exports | None):
        self.repository, self._exportable, self._exports = repository, exportable, exports

    def resolve(self, model: Manifest | str, task: str | None = None) -> Manifest:
        """The published model ``model``, checked to do ``task``.

        Raises:
            UnknownModel, NotSupported: there is none of that name; this version cannot serve it.
            BrokenModel: what is published in its place cannot be read, and no export replaces it.
            ModelLoading: it is being exported.
            InvalidParameter: it does another task.
        """
        manifest = self._of(model) if isinstance(model, str) else model
        if task not in (None, manifest.task):
            raise InvalidParameter(f"'{manifest.id}' does {manifest.task}, not {task}.")
        return manifest

    def _of(self, name: str) -> Manifest:
        try:
            return self.repository.resolve(name)
        except UnknownModel:
            known = catalog.canonical(name)
            if known not in catalog.entries():
                raise
            if self._exportable is not None and known not in self._exportable:
                raise NotSupported(
                    f"'{known}' cannot be served by this version yet.",
                    hint="'tritonvision models' lists what can be exported.",
                ) from None
            if self._exports is None:
                raise
            self._exports.begin(known)  # raises ModelLoading while it runs, and the failure after it failed
            return self.repository.resolve(name)
