"""Segmenters of ultralytics with its ``Segment`` head: detectors with mask coefficients and mask prototypes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.catalog import Entry
from tritonvision.ensembles.schemas import PROTOTYPE_MASKS
from tritonvision.exporters.contract import ReferencePipeline, Tensors, Tolerance
from tritonvision.exporters.libraries.ultralytics.detect import (
    UltralyticsDetector,
    UltralyticsNetwork,
    best_anchors,
    boxes_of,
)
from tritonvision.exporters.modules import coco_masks
from tritonvision.exporters.modules.anchor_boxes import STANDARD_SIZE
from tritonvision.exporters.synthetic import calibrate

if TYPE_CHECKING:
    import torch


def _masks(segment: torch.nn.Module) -> torch.nn.Module:
    """What ``Segment`` gives beyond ``Detect``: coefficients ``[B,K,32]``, prototypes ``[B,32,h,w]``."""
    import torch
    from torch import nn

    class Masks(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches, self.prototypes = segment.cv4, segment.proto

        def forward(self, features, best):
            weights = torch.cat([b(x).flatten(2) for b, x in zip(self.branches, features, strict=True)], 2)
            # selected by the chosen anchors, as detection_graph selects the boxes
            weights = weights.gather(2, best[:, None].repeat(1, weights.shape[1], 1))
            return weights.transpose(1, 2), self.prototypes(features[0])

    return Masks()


class UltralyticsSegmentNetwork(UltralyticsNetwork):
    """One segmenter: ultralytics' model, and ``YOLO.predict`` with masks at full size as the reference pipeline."""

    head = PROTOTYPE_MASKS
    further = staticmethod(_masks)

    def canonical(self, output: Any, raw: Mapping[str, torch.Tensor]) -> Tensors:
        """As for detectors, with the prototypes and the coefficients, which follow the classes in each prediction."""
        predictions, prototypes = output
        found = best_anchors(predictions.transpose(1, 2).numpy(), raw["scores"].transpose(1, 2).numpy())
        return found | {"coefficients": found.pop("rest"), "prototypes": prototypes.numpy()}

    def predict(self, sample: np.ndarray, parameters: Mapping[str, Any], role: str = "") -> Tensors:
        """See :meth:`Network.predict`. Masks are always run lengths, whichever ``mask_format`` is asked for."""
        result = self.ask(sample, parameters, retina_masks=True, predictor=_predictor())
        if parameters["mask_format"] == "none":
            return boxes_of(result) | {"masks": np.empty(0, dtype=object)}
        dense = result.masks.data.numpy() if result.masks is not None else ()
        return boxes_of(result) | {"masks": np.array([coco_masks.counts(mask) for mask in dense], dtype=object)}


class UltralyticsSegmenter(UltralyticsDetector):
    """A family whose ids read ``<name><size>-seg-<pixels>`` and whose networks end in ultralytics' ``Segment`` head."""

    head = PROTOTYPE_MASKS
    network = UltralyticsSegmentNetwork
    tolerance = Tolerance({**UltralyticsDetector.tolerance.tensors, "coefficients": 1e-3, "prototypes": 1e-3})
    reference_pipeline = ReferencePipeline(
        "ultralytics", "8.4.190",
        "YOLO(weights).predict(bgr, imgsz=(H, W), rect=False, retina_masks=True, conf=, iou=, max_det=)",
    )  # fmt: skip

    def calibrate(self, model: torch.nn.Module, entry: Entry, seed: int) -> None:
        """As for detectors; prototypes and coefficients are scaled too, so that masks fill a part of their boxes."""
        import torch

        super().calibrate(model, entry, seed)
        segment = model.model[-1]
        last = [branch[-1] for branch in segment.cv4]
        pictures = calibrate.structured_pictures(4, STANDARD_SIZE, STANDARD_SIZE, seed)
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        *seen, features = calibrate.inputs_of([*last, segment.proto], model, images)
        generator = torch.Generator().manual_seed(seed)
        for layer, rows in zip(last, seen, strict=True):
            noise = torch.randn(layer.out_channels, generator=generator, dtype=torch.float64)
            calibrate.standardise(layer, rows, 1, 0.3 * noise)
        side = STANDARD_SIZE // 8
        _standardise_prototypes(segment.proto, features.reshape(len(images), side, side, -1).movedim(-1, 1))


def _standardise_prototypes(proto: torch.nn.Module, features: torch.Tensor) -> None:
    """Give each channel of its three convolutions mean 0 and std 1 over ``features [B,C,h,w]``, without borders.

    Zero padding changes the features of a deep random network near the borders more than the picture's contents do:
    with the borders included, prototypes would be nearly constant where the boxes are.
    """
    import torch

    exact = copy.deepcopy(proto).double()
    with torch.no_grad():
        for block, after in ((exact.cv1, exact.upsample), (exact.cv2, None), (exact.cv3, None)):
            answer = block.conv(features)
            margin = answer.shape[2] // 5
            inner = answer[:, :, margin:-margin, margin:-margin]
            spread = inner.std((0, 2, 3)).clamp_min(1e-30)
            block.conv.weight /= spread[:, None, None, None]
            block.bn.bias -= inner.mean((0, 2, 3)) / spread  # the initial batch norm is the identity
            features = block(features)
            features = after(features) if after else features
    proto.load_state_dict(exact.state_dict())


def _predictor() -> type:
    """ultralytics' predictor for masks at full size, which keeps instances whose mask is empty.

    The library drops instances with empty masks; our answers keep them, and the gate compares each of them.
    """
    from ultralytics.engine.results import Results
    from ultralytics.models.yolo.segment import SegmentationPredictor
    from ultralytics.utils import ops

    class Predictor(SegmentationPredictor):
        def construct_result(self, pred, img, orig_img, img_path, proto):
            masks = None
            pred[:, :4] = ops.scale_boxes(img.shape[2:], pred[:, :4], orig_img.shape)
            if len(pred):
                masks = ops.process_mask_native(proto, pred[:, 6:], pred[:, :4], orig_img.shape[:2])
            return Results(orig_img, path=img_path, names=self.model.names, boxes=pred[:, :6], masks=masks)

    return Predictor
