"""Weights that follow from the names of tensors alone: the same in every package, version and machine."""

import zlib

import numpy as np
import torch


def numbered(state, gain):
    """Values for every tensor of a state dict; convolutions multiply the variance of their input by about ``gain``."""
    return {name: torch.from_numpy(_values(name, tuple(tensor.shape), gain)) for name, tensor in state.items()
            if not name.endswith("num_batches_tracked")}  # fmt: skip


def _values(name, shape, gain):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "alpha")) or (len(shape) == 1 and name.endswith("weight")):
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) == 1:
        values = rng.normal(0, 0.1, shape)
    else:
        values = rng.normal(0, np.sqrt(gain / np.prod(shape[1:])), shape)
    return values.astype(np.float32)
