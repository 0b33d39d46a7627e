"""Base classes of families in torch: imports, and a reference network with its float64 copy and its packages."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tritonvision.exporters.contract import Family, Network
from tritonvision.exporters.libraries import torch_env

if TYPE_CHECKING:
    import torch


class TorchFamily(Family):
    """A family whose networks are written in torch."""

    def prepare(self) -> None:
        """See :meth:`Family.prepare`; :mod:`.torch_env` says why torchvision is imported there."""
        torch_env.import_torchvision()


class TorchNetwork(Network):
    """A network whose reference is a module of torch.

    Attributes:
        packages: distributions that took part besides those of every export with torch; the manifest has their
            versions.
    """

    packages: tuple[str, ...] = ()

    def __init__(self, model: torch.nn.Module, labels: tuple[str, ...] = (), source: str = "", **facts: Any):
        """``model`` is put into eval mode; the rest are the attributes of :class:`Network`."""
        super().__init__(labels, source, versions=torch_env.versions(*self.packages), **facts)
        self._model = model.eval()

    def reference(self, double: bool = False) -> torch.nn.Module:
        """The module, or its copy in float64, which is made once."""
        return self._double if double else self._model

    @cached_property
    def _double(self) -> torch.nn.Module:
        return copy.deepcopy(self._model).double()
