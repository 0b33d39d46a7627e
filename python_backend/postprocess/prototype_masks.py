"""Prototype masks: dense boxes, and in each box a mask that is a linear combination of shared prototypes.

The masks are those of ultralytics' ``predict(retina_masks=True)``: logits at the size of the prototypes, enlarged to
the picture, positive where the instance is, cut to the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.pictures import size_of
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.masks import run_lengths
from tritonvision.python_backend.masks.decode import Axis, decode
from tritonvision.python_backend.postprocess import dense_boxes

TASK = tasks.INSTANCE_SEGMENTATION

_STRIDE = 4  # network pixels a cell of the prototypes


def post(
    tensors: Mapping[str, np.ndarray], geometry: Geometry, parameters: Mapping[str, Any],
    given: str = dense_boxes.CANDIDATES,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Candidates of one picture to its instances, best first.

    Args:
        tensors: those of dense boxes, ``coefficients [K,c]`` and ``prototypes [c,h,w]`` float32; a cell of the
            prototypes is 4 network pixels, and the picture lies on whole network pixels.
        given: as of dense boxes.

    Returns:
        ``boxes``, ``scores``, ``class_ids`` of dense boxes, and ``masks`` object ``[n]`` of bytes, one a box in the
        format asked for (see :mod:`tritonvision.python_backend.masks.run_lengths`), or ``[0]`` when none was. Where no
        logit in the box is positive, the mask is empty.
    """
    kept = dense_boxes.survivors(tensors, parameters, given)
    boxes = dense_boxes.to_picture(tensors["boxes"][kept], geometry)
    encoded = []
    if parameters["mask_format"] != "none":
        rows, columns = axes(size_of(tensors["prototypes"][0]), geometry)
        # a pixel belongs to the box when its index does
        for coefficients, box in zip(tensors["coefficients"][kept], np.ceil(boxes).astype(int).tolist(), strict=True):
            patch = decode(coefficients, tensors["prototypes"], rows, columns, box)
            left, top = box[:2]
            encoded.append(
                run_lengths.encode(patch, left, top, geometry.height, geometry.width, parameters["mask_format"])
            )
    return {
        "boxes": boxes,
        "scores": tensors["scores"][kept],
        "class_ids": tensors["class_ids"][kept].astype(np.int32),
        "masks": np.array(encoded, dtype=object),
    }


def axes(cells: tuple[int, int], geometry: Geometry) -> tuple[Axis, Axis]:
    """Rows and columns of prototypes of ``cells`` (height, width) on the picture of ``geometry``."""
    lengths = geometry.height, geometry.width
    offsets = round(geometry.offset_y), round(geometry.offset_x)
    contents = round(geometry.height * geometry.gain_y), round(geometry.width * geometry.gain_x)
    both = list(zip(cells, offsets, contents, lengths, strict=True))
    padding = [_STRIDE * count - content for count, _, content, _ in both]
    # the coarsest grid on which the padding of both axes, and half of it, is whole
    step = math.gcd(_STRIDE, *padding, *(pad // 2 for pad in padding))
    rows, columns = (
        Axis(count, _STRIDE // step, offset // step, content // step, length) for count, offset, content, length in both
    )
    return rows, columns
