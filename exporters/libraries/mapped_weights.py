"""Weights of large networks in a file that is mapped: where memory is short the system drops them and reads them again.

The network that a graph is compared with, its copy in float64 and the graph's own session would otherwise be three or
four copies of all weights in memory at once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_SMALL = 1 << 16  # bytes up to which a tensor stays in memory


class MappedWeights:
    """Tensors in one file without a name, which ends with the last of them.

    Args:
        folder: on whose disk it is.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)

    def hold(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor in the file, or itself where it is small. Raises OSError where the disk is full."""
        import torch

        if tensor.nbytes < _SMALL:
            return tensor
        values = tensor.detach().contiguous().numpy()
        at = self._file.seek(0, 2)
        self._file.write(values.reshape(-1).view(np.uint8).data)
        self._file.flush()
        # a change of it would stay in memory, and is none of the file
        return torch.from_numpy(np.memmap(self._file, values.dtype, "c", at, values.shape))

    def take(self, module: torch.nn.Module) -> None:
        """Move the weights of ``module`` there, one after another; those that several layers share stay shared."""
        held: dict[tuple, torch.Tensor] = {}
        for tensor in (*module.parameters(), *module.buffers()):
            key = tensor.data_ptr(), tensor.shape, tensor.stride()
            if key not in held:
                held[key] = self.hold(tensor.data)
            tensor.data = held[key]

    def another(self) -> MappedWeights:
        """An empty file beside it."""
        return MappedWeights(self._folder)
