"""Places that a text names as boxes in pixels, one a place, for what draws, lists and sends boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tritonvision.grounding.grounded import Grounded
from tritonvision.results import Detections, InstanceDetections

UNNAMED = "region"  # the name of a place of which the text says nothing


def detections(found: Sequence[Grounded], width: int, height: int) -> tuple[Detections, tuple[str, ...]]:
    """Boxes in the order of the text, each of confidence 1, and the names of their classes: the phrases.

    Where places have outlines, every outline is an instance with the box around it; a box alone is its own outline. A
    point is a box without an extent.

    Args:
        width, height: of the picture, pixels.
    """
    labels = tuple(dict.fromkeys(place.phrase or UNNAMED for place in found))
    rows, outlines = [], []
    for place in found:
        class_id = labels.index(place.phrase or UNNAMED)
        shapes = place.polygons or tuple(
            ((left, top), (right, top), (right, bottom), (left, bottom)) for left, top, right, bottom in place.boxes
        )
        for shape in (*shapes, *((point,) for point in place.points)):
            corners = np.array(shape, dtype=np.float64) * (width, height)
            rows.append((*corners.min(0), *corners.max(0), class_id))
            outlines.append(np.rint(corners).astype(np.int32))
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    boxes, class_ids = table[:, :4].astype(np.float32), table[:, 4].astype(np.int32)
    scores, size = np.ones(len(table), dtype=np.float32), {"width": width, "height": height}
    if any(place.polygons for place in found):
        return InstanceDetections(boxes, class_ids, scores, size, polygons=outlines), labels
    return Detections(boxes, class_ids, scores, size), labels
