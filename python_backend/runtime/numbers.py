"""Refuses NaN in the outputs of a network."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tritonvision.errors import BrokenModel


def require_numbers(tensors: Iterable[np.ndarray]) -> None:
    """Raise BrokenModel where a tensor of floats holds a NaN. Infinities pass: networks mask with them."""
    for tensor in tensors:
        if tensor.dtype.kind == "f" and _has_nan(tensor.reshape(-1)):
            raise BrokenModel("The model answered what is no number (NaN).", hint="Publish it again with --force.")


def _has_nan(values: np.ndarray) -> bool:
    if values.dtype == np.float16:
        return bool(np.isnan(values).any())
    # A sum of squares is NaN exactly where one of them is, and takes a tenth of the time of looking at each.
    return bool(np.isnan(np.dot(values, values)))
