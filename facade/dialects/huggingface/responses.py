"""Results in Hugging Face's JSON: boxes of whole pixels, classes by their scores, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tritonvision.facade.dialects.common.labels import name_of
from tritonvision.facade.rendering.opencv import png
from tritonvision.results import Detections, InstancesRLEMasks


def boxes(found: Detections, labels: Sequence[str]) -> list[dict[str, Any]]:
    """``[{"score", "label", "box"}]``, best first.

    Corners are clipped to the picture, then cut to whole pixels; boxes of no area are left out.

    Args:
        labels: by class id.
    """
    corners = found.xyxy.astype(np.float64).reshape(-1, 4)
    if found.image_metadata:
        size = [found.image_metadata["width"], found.image_metadata["height"]]
        corners = np.clip(corners, 0, size * 2)
    seen = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
    order = np.argsort(-found.confidence, kind="stable")
    whole = corners.astype(np.int64).tolist()
    return [
        {
            "score": float(found.confidence[i]),
            "label": name_of(labels, int(found.class_id[i])),
            "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), whole[i], strict=True)),
        }
        for i in order[seen[order]].tolist()
    ]


def classes(scores: np.ndarray, labels: Sequence[str], most: int | None = None) -> list[dict[str, Any]]:
    """``[{"label", "score"}]`` of the ``most`` best of ``scores``, float ``[n]``, best first."""
    best = np.argsort(-scores, kind="stable")[:most]
    return [{"label": name_of(labels, i), "score": float(scores[i])} for i in best.tolist()]


def mask(masks: InstancesRLEMasks, row: int) -> str:
    """Base64 of a PNG of one of the masks: grey, of the picture's size, 255 on the object and 0 off it."""
    (dense,) = masks.only(row).to_dense()
    return png(dense.astype(np.uint8) * 255)
