"""Embeddings: one vector a picture, as the network gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry

TASK = tasks.EMBEDDING


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """``embeddings [D]`` float32, unchanged: whether they have unit length is up to the network."""
    return {"embeddings": tensors["embeddings"]}
