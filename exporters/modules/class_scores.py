"""What a reference says of classes: the activation of its logits, and which of them reach the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def activated(logits: np.ndarray, function: str) -> np.ndarray:
    """torch's ``softmax`` over the last axis, ``sigmoid``, or ``none``."""
    import torch

    values = torch.from_numpy(logits)
    return {"softmax": lambda v: v.softmax(-1), "sigmoid": torch.sigmoid, "none": lambda v: v}[function](values).numpy()


def answer(logits: np.ndarray, scores: np.ndarray, parameters: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The public outputs of one picture.

    Args:
        logits, scores: float32 ``[C]``, the latter with the model's own activation.
        parameters: resolved settings of the task: ``function`` replaces the activation.
    """
    if parameters["function"] is not None:
        scores = activated(logits, parameters["function"])
    order = np.argsort(-scores, kind="stable")
    return {"scores": scores, "class_ids": order[scores[order] >= parameters["confidence"]].astype(np.int32)}
