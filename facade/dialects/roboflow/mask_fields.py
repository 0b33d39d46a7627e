"""Masks in Roboflow's dialect: what a request says about them, and how an answer holds them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from tritonvision.errors import InvalidParameter
from tritonvision.facade.dialects.roboflow import responses
from tritonvision.publication import Manifest
from tritonvision.results import InstanceDetections

_DECODE_MODES = ("accurate", "fast", "tradeoff")
_FORMATS = ("polygon", "rle")


class MaskFields(BaseModel):
    """The fields of a request about instances that are about their masks.

    Masks are always decoded at the size of the picture: how to decode them faster and coarser is checked, and changes
    nothing.
    """

    mask_decode_mode: str = "accurate"
    tradeoff_factor: float = 0.0
    response_mask_format: str = "polygon"
    allow_reduced_mask_resolution: bool = False

    def mask_format(self) -> str:
        """The setting of the task. Raises InvalidParameter for any field that cannot be meant."""
        for name, value, known in (
            ("mask_decode_mode", self.mask_decode_mode, _DECODE_MODES),
            ("response_mask_format", self.response_mask_format, _FORMATS),
        ):
            if value not in known:
                raise InvalidParameter(f"'{name}' must be {' or '.join(known)}.")
        if not 0 <= self.tradeoff_factor <= 1:
            raise InvalidParameter("'tradeoff_factor' must lie between 0 and 1.")
        return self.response_mask_format


def instances(found: InstanceDetections, manifest: Manifest) -> dict[str, Any]:
    """``image`` and ``predictions`` of boxes with ``points`` or ``rle``, whichever was asked for, in picture pixels."""
    answer = responses.detections(found, manifest)
    predictions = answer["predictions"]
    if found.polygons is not None:
        for prediction, polygon in zip(predictions, found.polygons, strict=True):
            points = [{"x": x, "y": y} for x, y in polygon.astype(float).tolist()]
            prediction |= {"points": points, "mask_format": "polygon"}
    if found.mask is not None:
        size = list(found.mask.image_size)
        for prediction, counts in zip(predictions, found.mask.masks, strict=True):
            prediction |= {"rle": {"size": size, "counts": counts.decode("ascii")}, "mask_format": "rle"}
    return answer
