"""Optimisation profiles: between which shapes a plan runs, and for which it is tuned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tritonvision.ensembles.entry_points import Net
from tritonvision.ensembles.tensors import Tensor
from tritonvision.errors import NotSupported

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Profile:
    """The (least, usual, largest) shape of each input, by name, batch axis included."""

    inputs: Mapping[str, tuple[Shape, Shape, Shape]]

    def to_json(self) -> str:
        """As one line, the same for equal profiles: a part of what a plan is known by."""
        return json.dumps({name: self.inputs[name] for name in sorted(self.inputs)}, separators=(",", ":"))


def profile(net: Net, max_batch: int = 0, optimal_batch: int = 0) -> Profile:
    """The profile of a network: its batch from one to ``max_batch``, its other free axes within their ``bounds``.

    Args:
        max_batch: 0 for the network's own, see :func:`tritonvision.ensembles.published.plan_batch`.
        optimal_batch: the batch that the plan is tuned for; 0 for ``max_batch``, and for one where pixels follow the
            picture.

    Raises:
        NotSupported: an axis of any length has no bounds, or the batches contradict each other.
    """
    follows_picture = any(tensor.dims.count(-1) > 1 for tensor in net.inputs)
    most = max_batch or net.max_batch
    usual = optimal_batch or (1 if follows_picture else most)
    if not 1 <= usual <= most:
        raise NotSupported(
            f"A plan for batches of up to {most} cannot be tuned for {usual}.",
            hint="Give --optimal-batch a number from 1 to --max-batch.",
        )
    return Profile({tensor.name: _shapes(tensor, (1, usual, most)) for tensor in net.inputs})


def _shapes(tensor: Tensor, batch: tuple[int, int, int]) -> tuple[Shape, Shape, Shape]:
    if tensor.dims.count(-1) != len(tensor.bounds):
        raise NotSupported(
            f"Nobody has said between which lengths the axes of '{tensor.name}' lie, and TensorRT must know.",
            hint="This network stays on ONNX Runtime.",
        )
    least, usual, largest = (
        (batch[i], *_filled(tensor.dims, [bounds[i] for bounds in tensor.bounds])) for i in range(3)
    )
    return least, usual, largest


def _filled(dims: Shape, lengths: list[int]) -> Shape:
    given = iter(lengths)
    return tuple(next(given) if axis == -1 else axis for axis in dims)
