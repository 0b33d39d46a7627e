"""Masks in Roboflow's dialect: the fields of a request, and their form in an answer."""

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
    """The fields for masks of a request for instances.

    Masks are always decoded at the size of the picture: fields for a coarser decoding are checked and ignored.
    """

    mask_decode_mode: str = "accurate"
    tradeoff_factor: float = 0.0
    response_mask_format: str = "polygon"
    allow_reduced_mask_resolution: bool = False

    def mask_format(self) -> str:
        """The setting of the task. Raises InvalidParameter for a wrong value of any field."""
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
    """``image`` and ``predictions`` of boxes with ``points`` or ``rle``, as requested, in picture pixels."""
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
