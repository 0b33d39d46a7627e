"""Base classes of families in torch: imports, and a reference network with its float64 copy and its packages."""

from __future__ import annotations

import copy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonvision.errors import ExportFailed
from tritonvision.exporters.contract import Family, Network
from tritonvision.exporters.graphs.export import APART, weight_bytes
from tritonvision.exporters.libraries import torch_env
from tritonvision.exporters.libraries.mapped_weights import MappedWeights
from tritonvision.python_backend.runtime.sessions import release_free_memory

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
        """``model`` is put into eval mode; the rest are the attributes of :class:`Network`.

        Raises:
            ExportFailed: a weight is no number.
        """
        demand_numbers(model)
        super().__init__(labels, source, versions=torch_env.versions(*self.packages), **facts)
        self._model = model.eval()
        self._mapped: MappedWeights | None = None

    def map_weights(self, folder: Path) -> None:
        """See :meth:`Network.map_weights`."""
        if weight_bytes(self._model) < APART:
            return
        self._mapped = MappedWeights(folder)
        self._mapped.take(self._model)
        release_free_memory()

    def reference(self, double: bool = False) -> torch.nn.Module:
        """The module, or its copy in float64, which is made once."""
        return self._double if double else self._model

    @cached_property
    def _double(self) -> torch.nn.Module:
        # tensors that are there in float64 already are not copied in float32 before
        tensors = (*self._model.parameters(), *self._model.buffers())
        place = None if self._mapped is None else self._mapped.another()
        doubled: dict[int, Any] = {id(tensor): _doubled(tensor, place) for tensor in tensors}
        release_free_memory()  # of what was copied into the file
        return copy.deepcopy(self._model, doubled).double()


def demand_numbers(model: torch.nn.Module) -> None:
    """Raise ExportFailed where a parameter is NaN or infinite, or a buffer NaN: masks have infinity in them."""
    import torch

    numbers = ((name, torch.isfinite(tensor)) for name, tensor in model.named_parameters())
    masks = ((name, ~torch.isnan(tensor)) for name, tensor in model.named_buffers())
    wrong = next((name for found in (numbers, masks) for name, fine in found if not fine.all()), None)
    if wrong is not None:
        raise ExportFailed(
            f"The weights hold NaN or infinity, first in '{wrong[:80]}'.",
            hint="Their training went wrong: take a checkpoint of an earlier epoch.",
        )


def _doubled(tensor: torch.Tensor, place: MappedWeights | None) -> torch.Tensor:
    """Its copy in float64, in memory or in ``place``, a parameter or a buffer as it is; whole numbers stay."""
    import torch

    made = tensor.detach().to(torch.float64 if tensor.is_floating_point() else tensor.dtype, copy=True)
    if place is not None:
        made = place.hold(made)
    return torch.nn.Parameter(made, tensor.requires_grad) if isinstance(tensor, torch.nn.Parameter) else made
