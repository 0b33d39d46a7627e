"""Query boxes: each query of a transformer is a detection of its own, so there is a threshold and no non-maximum
suppression.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.postprocess import dense_boxes

TASK = tasks.OBJECT_DETECTION


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Queries of one picture to its detections, best first.

    Args:
        tensors: ``boxes [K,4]`` float32 corners x1, y1, x2, y2 as fractions of the picture, which may reach over it;
            ``scores [K]`` float32; ``class_ids [K]`` int32.
        parameters: all settings of object detection, resolved; those of suppression have no effect.

    Returns:
        The same three names for what is over the threshold; boxes in picture pixels, clipped to the picture.
    """
    order = dense_boxes.candidates(tensors["scores"], parameters)
    kept = dense_boxes.chosen(order, tensors["class_ids"], parameters)
    size = np.array([geometry.width, geometry.height] * 2, dtype=np.float32)
    return {
        "boxes": np.clip(tensors["boxes"][kept] * size, 0, size).astype(np.float32),
        "scores": tensors["scores"][kept],
        "class_ids": tensors["class_ids"][kept].astype(np.int32),
    }
