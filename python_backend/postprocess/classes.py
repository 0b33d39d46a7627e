"""Classes: the scores of a whole picture, and which of them reach the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry

TASK = tasks.CLASSIFICATION


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Scores of one picture.

    Args:
        tensors: ``logits [C]`` and ``scores [C]`` float32, the latter with the model's own activation.
        parameters: ``function`` replaces the model's activation; ``confidence`` is the threshold.

    Returns:
        ``scores [C]`` float32 and ``class_ids [m]`` int32, those at or over the threshold, best first.
    """
    scores = _ACTIVATIONS[parameters["function"]](tensors)
    order = np.argsort(-scores, kind="stable")
    reached = order[scores[order] >= np.float32(parameters["confidence"])]
    return {"scores": scores, "class_ids": reached.astype(np.int32)}


def _softmax(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    exponents = np.exp(tensors["logits"] - tensors["logits"].max())
    return exponents / exponents.sum()


_ACTIVATIONS = {
    None: lambda tensors: tensors["scores"],
    "none": lambda tensors: tensors["logits"],
    "sigmoid": lambda tensors: 1 / (1 + np.exp(-np.clip(tensors["logits"], -80, 80))),
    "softmax": _softmax,
}
