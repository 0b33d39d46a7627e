"""YOLACT's own pipeline in torch, step by step as its ``eval.py`` runs it: the reference, which shares no code with the
post step.

Two things are left out, because they only change the form of an answer: corners are cut to whole pixels there, and at
most 100 instances are kept. What the command line sets there (score, overlap) is a parameter here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision.exporters.contract import Tensors
from tritonvision.exporters.families.yolact.network import Predictions, priors
from tritonvision.exporters.modules import coco_masks

if TYPE_CHECKING:
    import torch

_MEAN_BGR, _STD_BGR = (103.94, 116.78, 123.68), (57.38, 57.12, 58.40)
_TOP = 200  # candidates of a class


def pixels(picture: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """RGB uint8 ``[h,w,3]`` to the network's input ``[1,3,H,W]``: ``FastBaseTransform`` on a BGR picture."""
    import torch
    from torch.nn import functional

    bgr = torch.from_numpy(np.ascontiguousarray(picture[..., ::-1])).float()[None]
    resized = functional.interpolate(bgr.permute(0, 3, 1, 2), size, mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (_MEAN_BGR, _STD_BGR))
    return ((resized - mean) / std)[:, (2, 1, 0)].contiguous()


def decoded(loc: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """``[A,4]`` offsets to corners, fractions of the picture: ``decode`` of SSD."""
    import torch

    anchors = priors(*size).to(loc.dtype)
    boxes = torch.cat(
        (
            anchors[:, :2] + loc[:, :2] * 0.1 * anchors[:, 2:],
            anchors[:, 2:] * torch.exp(loc[:, 2:] * 0.2),
        ),
        1,
    )
    boxes[:, :2] -= boxes[:, 2:] / 2
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def answer(
    found: Predictions, size: tuple[int, int], picture_size: tuple[int, int], parameters: Mapping[str, Any]
) -> Tensors:
    """``Detect`` and ``postprocess``: predictions of one picture to the public outputs.

    Args:
        size: (height, width) of the network's pixels.
        picture_size: (height, width) of the picture.
        parameters: settings of instance segmentation, resolved.
    """
    height, width = picture_size
    boxes, coefficients, class_ids, scores = _detected(found, size, parameters)
    corners = boxes.clone()
    corners[:, 0::2] = (corners[:, 0::2] * width).clamp(0, width)
    corners[:, 1::2] = (corners[:, 1::2] * height).clamp(0, height)
    masks: list[bytes] = []
    if parameters["mask_format"] != "none":
        masks = [_mask(found.proto[0], *row, picture_size) for row in zip(coefficients, boxes, strict=True)]
    return {
        "boxes": corners.numpy().astype(np.float32),
        "scores": scores.numpy(),
        "class_ids": class_ids.numpy().astype(np.int32),
        "masks": np.array(masks, dtype=object),
    }


def _detected(
    found: Predictions, size: tuple[int, int], parameters: Mapping[str, Any]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Boxes (fractions), coefficients, class ids and scores, best first, after suppression."""
    import torch

    by_class = found.conf[0].softmax(1)[:, 1:].T
    keep = by_class.max(0).values > parameters["confidence"]
    boxes, coefficients, by_class = decoded(found.loc[0], size)[keep], found.mask[0][keep], by_class[:, keep]
    class_ids = torch.arange(len(by_class))[:, None].expand_as(by_class)
    if parameters["class_agnostic_nms"]:
        best = by_class.max(0)
        by_class, class_ids = best.values[None], best.indices[None]
    scores, order = by_class.sort(1, descending=True)
    scores, order = scores[:, :_TOP], order[:, :_TOP]
    class_ids = class_ids.gather(1, order)
    kept = _overlaps(boxes[order]).triu_(diagonal=1).amax(1) <= parameters["iou_threshold"] if order.numel() else order
    kept = kept.bool() & (scores > parameters["confidence"])
    order, class_ids, scores = order[kept], class_ids[kept], scores[kept]
    scores, best = scores.sort(0, descending=True)
    best, scores = best[: parameters["max_detections"]], scores[: parameters["max_detections"]]
    order, class_ids = order[best], class_ids[best]
    if parameters["classes"] is not None:
        wanted = torch.isin(class_ids, torch.tensor(parameters["classes"], dtype=class_ids.dtype))
        order, class_ids, scores = order[wanted], class_ids[wanted], scores[wanted]
    return boxes[order], coefficients[order], class_ids, scores


def _overlaps(boxes: torch.Tensor) -> torch.Tensor:
    """``[C,n,n]`` IoU of ``[C,n,4]`` corners: ``jaccard``."""
    import torch

    low = torch.max(boxes[:, :, None, :2], boxes[:, None, :, :2])
    high = torch.min(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    inter = (high - low).clamp(min=0).prod(3)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(2)
    return inter / (area[:, :, None] + area[:, None, :] - inter)


def _mask(proto: torch.Tensor, coefficients: torch.Tensor, box: torch.Tensor, size: tuple[int, int]) -> bytes:
    """One instance's mask at the picture's size, as COCO's own encoder writes it."""
    import torch
    from torch.nn import functional

    shares = torch.sigmoid(proto.permute(1, 2, 0) @ coefficients)
    height, width = shares.shape
    x1, x2 = (box[0] * width - 1).clamp(min=0), (box[2] * width + 1).clamp(max=width)
    y1, y2 = (box[1] * height - 1).clamp(min=0), (box[3] * height + 1).clamp(max=height)
    columns, rows = torch.arange(width)[None], torch.arange(height)[:, None]
    shares = shares * ((columns >= x1) & (columns < x2) & (rows >= y1) & (rows < y2)).float()
    whole = functional.interpolate(shares[None, None], size, mode="bilinear", align_corners=False)[0, 0].gt(0.5)
    return coco_masks.counts(whole.numpy())
