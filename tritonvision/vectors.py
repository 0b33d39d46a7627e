"""Unit vectors and cosine similarity of embeddings."""

from __future__ import annotations

import numpy as np


def directions(vectors: np.ndarray) -> np.ndarray:
    """``[n,D]`` with rows of length 1; one without a direction stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def cosines(one: np.ndarray, others: np.ndarray) -> np.ndarray:
    """float64 ``[n]`` of ``[D]`` and ``[n,D]``; 0 for a vector without a direction."""
    one, others = one.astype(np.float64), others.astype(np.float64)
    lengths = np.linalg.norm(one) * np.linalg.norm(others, axis=1)
    return np.clip(others @ one / np.where(lengths > 0, lengths, 1), -1, 1)
