"""Whether attention has an effect on an answer: the rows of its queries are put into another order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch

from tritonvision.exporters.contract import Tensors, Tolerance
from tritonvision.exporters.libraries.torch_network import TorchNetwork

BARS = 100  # of the gate, by which an answer must move
_ALONE = re.compile(r"(^|\.)(q|q_proj|query|query_proj)$")  # projections of queries, in the libraries
_TOGETHER = re.compile(r"(^|\.)qkv$")  # of queries, keys and values: the first third, at least, are queries


def check_attention(
    network: TorchNetwork, tolerance: Tolerance, asked: Mapping[str, Tensors], module: torch.nn.Module | None = None,
    bars: float = BARS,
) -> None:  # fmt: skip
    """Each attention, taken together with its like in other layers, moves some answer by so many bars of the gate.

    Args:
        asked: inputs of the networks, by role; those that are quick come first.
        module: where the attention is; None for the reference.
        bars: more where the network is narrow: there attention that is nearly uniform still moves the answer by some.
    """
    kinds = _queries(module or network.reference())
    assert kinds, "no attention is found"
    wanted = {role: network.tensors(inputs, role=role) for role, inputs in asked.items()}
    for name, rows in kinds.items():
        moved = 0.0
        with _reversed(rows):
            for role, inputs in asked.items():
                if moved < bars:
                    moved = max(moved, _bars(network.tensors(inputs, role=role), wanted[role], tolerance))
        assert moved >= bars, f"{name}: {moved:.3g} bars"


def _queries(module: torch.nn.Module) -> dict[str, list[torch.Tensor]]:
    """The rows that make queries, weights and biases, by the name of the attention without numbers of layers."""
    found: dict[str, list[torch.Tensor]] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.MultiheadAttention):
            rows = [layer.in_proj_weight[: layer.embed_dim], layer.in_proj_bias[: layer.embed_dim]]
        elif _ALONE.search(name):
            rows = [*layer.parameters(recurse=False)]
        elif _TOGETHER.search(name):
            rows = [values[: len(values) // 3] for values in layer.parameters(recurse=False)]
        else:
            continue
        found.setdefault(re.sub(r"\d+", "N", name), []).extend(rows)
    return found


@contextmanager
def _reversed(rows: list[torch.Tensor]) -> Iterator[None]:
    """Within the block each query has its numbers in the opposite order: other heads' in each head."""
    _reverse(rows)
    try:
        yield
    finally:
        _reverse(rows)


def _reverse(rows: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for values in rows:
            values.copy_(values.flip(0))


def _bars(found: Tensors, wanted: Tensors, tolerance: Tolerance) -> float:
    """The largest difference of floats, in bars of the gate."""
    apart = {
        name: float(np.abs(found[name] - value).max()) / (np.abs(value).max() if tolerance.is_relative(name) else 1)
        for name, value in wanted.items() if np.issubdtype(value.dtype, np.floating)
    }  # fmt: skip
    return max(value / tolerance.tensor(name) for name, value in apart.items())


def examples_of(network: TorchNetwork, *roles: str) -> dict[str, Tensors]:
    """The last of the gate's own inputs of each network of a composition or of a model that writes."""
    return {role: [*network.examples(role).values()][-1] for role in roles}
