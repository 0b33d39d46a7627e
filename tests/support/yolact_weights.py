"""YOLACT with drawn weights that any code can load: what the authors' code answered with them is in a file."""

from __future__ import annotations

from zlib import crc32

import numpy as np

BLOCKS, SIDE = (1, 2, 1, 1), 160
CONFIDENCE, OVERLAP = 0.15, 0.5


def drawn(state):
    """Tensors of the names and shapes of ``state``, a stream of numbers for each name; gains of norms are about 1."""
    import torch

    found = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        values = np.random.RandomState(crc32(name.encode()) % 2**31).standard_normal(tuple(tensor.shape))
        if tensor.ndim > 1:
            values /= np.sqrt(values[0].size)
        elif name.endswith("running_var"):
            values = 0.8 + 0.4 * np.abs(values)
        else:
            values = 0.1 * values + (name.endswith("weight") and "layers" in name or name == "backbone.bn1.weight")
        found[name] = torch.from_numpy(values.astype(np.float32))
    found["prediction_layers.0.conf_layer.weight"] *= 3
    return found


def some(values: np.ndarray) -> list[float]:
    """Forty-eight of the values, spread evenly, and their mean and standard deviation."""
    flat = np.asarray(values, dtype=np.float64).reshape(-1)
    return [*flat[np.linspace(0, len(flat) - 1, 48).astype(int)].tolist(), float(flat.mean()), float(flat.std())]
