"""Result types in the JSON of Roboflow's server. Boxes are centre and size, floats, pixels of the oriented picture."""

from __future__ import annotations

import os
import uuid
from typing import Any

import numpy as np

from tritonvision.facade.dialects.common.labels import name_of
from tritonvision.publication import Manifest
from tritonvision.results import (
    ClassificationPrediction,
    Detections,
    KeyPoints,
    MultiLabelClassificationPrediction,
)


def detections(found: Detections, manifest: Manifest) -> dict[str, Any]:
    """``image`` and ``predictions`` of boxes."""
    rows = zip(
        found.xyxy.tolist(), found.confidence.tolist(), found.class_id.tolist(), _ids(len(found)), strict=True
    )  # fmt: skip
    return {
        "image": _size(found.image_metadata),
        "predictions": [
            {
                "x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1,
                "confidence": score, "class": name_of(manifest.labels, class_id), "class_id": class_id,
                "detection_id": detection_id,
            }
            for (x1, y1, x2, y2), score, class_id, detection_id in rows
        ],
    }  # fmt: skip


def keypoints(result: tuple[KeyPoints, Detections], manifest: Manifest, least: float) -> dict[str, Any]:
    """:func:`detections` with the points of each instance that reach the confidence ``least``."""
    points, found = result
    answer = detections(found, manifest)
    for prediction, xy, scores in zip(
        answer["predictions"], points.xy.tolist(), points.confidence.tolist(), strict=True
    ):  # fmt: skip
        prediction["keypoints"] = [
            {"x": x, "y": y, "confidence": score, "class_id": k, "class": name_of(manifest.keypoint_labels, k)}
            for k, ((x, y), score) in enumerate(zip(xy, scores, strict=True))
            if score >= least
        ]
    return answer


def classification(
    result: ClassificationPrediction | MultiLabelClassificationPrediction, manifest: Manifest, least: float
) -> dict[str, Any]:
    """The classes of one picture; only single-label answers leave classes under ``least`` out."""
    if isinstance(result, MultiLabelClassificationPrediction):
        return _multi_label(result, manifest, least)
    scores = result.confidence[0]
    order = np.argsort(-scores, kind="stable")
    kept = order[scores[order] >= least]
    predictions = [
        {"class": name_of(manifest.labels, i), "class_id": i, "confidence": round(score, 4)}
        for i, score in zip(kept.tolist(), scores[kept].tolist(), strict=True)
    ]
    best = predictions[0] if predictions else {"class": "", "confidence": 0.0}
    metadata = result.images_metadata[0] if result.images_metadata else None
    return {
        "image": _size(metadata), "predictions": predictions, "top": best["class"], "confidence": best["confidence"],
    }  # fmt: skip


def _multi_label(
    result: MultiLabelClassificationPrediction, manifest: Manifest, least: float
) -> dict[str, Any]:  # fmt: skip
    scores = result.confidence.tolist()
    names = [name_of(manifest.labels, i) for i in range(len(scores))]
    return {
        "image": _size(result.image_metadata),
        "predictions": {
            name: {"confidence": score, "class_id": i}
            for i, (name, score) in enumerate(zip(names, scores, strict=True))
        },
        "predicted_classes": [name for name, score in zip(names, scores, strict=True) if score >= least],
    }


def _ids(count: int) -> list[str]:
    """Random UUIDs from one call of ``os.urandom``, which takes most of the time."""
    random = os.urandom(16 * count)
    return [str(uuid.UUID(bytes=random[i : i + 16], version=4)) for i in range(0, len(random), 16)]


def _size(metadata: dict[str, Any] | None) -> dict[str, int]:
    return {"width": int(metadata["width"]), "height": int(metadata["height"])} if metadata else {}
