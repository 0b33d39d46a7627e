"""Detectors of ultralytics with a one-to-one head, as YOLOv10's: its boxes are final, none is suppressed.

The network has a second head, which is only trained with and whose boxes would have to be suppressed: it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.schemas import FINAL_BOXES
from tritonvision.exporters.contract import ReferencePipeline, Tensors
from tritonvision.exporters.libraries.ultralytics.detect import UltralyticsDetector, UltralyticsNetwork, boxes_of

if TYPE_CHECKING:
    import torch
    from ultralytics import YOLO


class OneToOneNetwork(UltralyticsNetwork):
    """One detector; the reference pipeline is ``YOLO.predict(nms=False)``, which asks the one-to-one head."""

    head = FINAL_BOXES

    def __init__(self, yolo: YOLO, size: tuple[int, int], **facts: Any):
        """See :class:`UltralyticsNetwork`."""
        yolo.model.end2end = True
        super().__init__(yolo, size, **facts)

    def canonical(self, output: Any, raw: Mapping[str, Any]) -> Tensors:
        """The canonical tensors of ``[B, 300, 6]``: corners, score and class of each box, best first."""
        found = output.numpy()
        return {"boxes": found[..., :4], "scores": found[..., 4], "class_ids": found[..., 5].astype(np.int32)}

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. The settings of suppression have no effect."""
        return boxes_of(self.ask(sample, {**parameters, "class_agnostic_nms": False}, nms=False))


class OneToOneDetector(UltralyticsDetector):
    """A family whose ids read ``<name><size>-<pixels>`` and whose networks have a one-to-one head."""

    head = FINAL_BOXES
    network = OneToOneNetwork
    reference_pipeline = ReferencePipeline(
        "ultralytics", "8.4.190", "YOLO(weights).predict(bgr, imgsz=(H, W), rect=False, nms=False, conf=, max_det=)"
    )

    def calibrate(self, model: torch.nn.Module, entry: Entry, seed: int) -> None:
        """As for other detectors, of the one-to-one head."""
        model.end2end = True
        super().calibrate(model, entry, seed)
