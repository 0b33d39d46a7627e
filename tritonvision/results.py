"""One result type a task, in numpy. Boxes are float32 pixels of the oriented picture; dialects round, types do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass
class Detections:
    """Boxes of one picture, best first.

    Attributes:
        xyxy: (n, 4) float32, pixels, corners.
        class_id: (n,) int32.
        confidence: (n,) float32 in 0..1.
        image_metadata: facts about the picture, ``{"height": h, "width": w}`` at least, or None.
        bboxes_metadata: one dict a box, or None.
    """

    xyxy: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    image_metadata: dict[str, Any] | None = None
    bboxes_metadata: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[tuple]:
        """Tuples in supervision's order: xyxy, mask, confidence, class_id, tracker_id, data, metadata."""
        for i in range(len(self)):
            data = self.bboxes_metadata[i] if self.bboxes_metadata else {}
            yield self.xyxy[i], None, self.confidence[i], self.class_id[i], None, data, self.image_metadata

    def to_supervision(self):
        """``supervision.Detections`` with the same boxes; needs the ``client`` extra."""
        import supervision as sv

        return sv.Detections(
            xyxy=self.xyxy.astype(np.float32).reshape(-1, 4), confidence=self.confidence, class_id=self.class_id
        )


@dataclass
class KeyPoints:
    """Named points of every instance in one picture, parallel to the :class:`Detections` they come with.

    Attributes:
        xy: (n, k, 2) float32, pixels.
        class_id: (n,) int32.
        confidence: (n, k) float32.
    """

    xy: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    image_metadata: dict[str, Any] | None = None
    key_points_metadata: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.xy)

    def to_supervision(self):
        """``supervision.KeyPoints`` with the same points; needs the ``client`` extra."""
        import supervision as sv

        return sv.KeyPoints(
            xy=self.xy.astype(np.float32), class_id=self.class_id, keypoint_confidence=self.confidence
        )


@dataclass
class ClassificationPrediction:
    """Single-label scores of a batch of pictures.

    Attributes:
        class_id: (bs,) int64, the best class of each picture.
        confidence: (bs, num_classes) float32, the whole softmax.
    """

    class_id: np.ndarray
    confidence: np.ndarray
    images_metadata: list[dict[str, Any]] | None = None


@dataclass
class MultiLabelClassificationPrediction:
    """Multi-label scores of one picture.

    Attributes:
        class_ids: (m,) int64, classes at or over the threshold.
        confidence: (num_classes,) float32, the whole sigmoid.
    """

    class_ids: np.ndarray
    confidence: np.ndarray
    image_metadata: dict[str, Any] | None = None


# What one picture's answer may be.
Result = Detections | tuple[KeyPoints, Detections] | ClassificationPrediction | MultiLabelClassificationPrediction
