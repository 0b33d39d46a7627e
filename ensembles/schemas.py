"""The head kinds: which canonical tensors a network emits, which post step reads them, what the public model answers.

An architecture chooses a head kind; post-processing, wiring and result type follow from it. All tensors carry a leading
batch axis that is not written here; ``-1`` is an axis of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.ensembles.tensors import Tensor
from tritonvision.python_backend.images.resize import Geometry
from tritonvision.python_backend.postprocess import (
    classes,
    dense_boxes,
    dense_map,
    embeddings,
    keypoints,
    prototype_masks,
    query_boxes,
)


@dataclass(frozen=True)
class HeadKind:
    """One way a network's answer is laid out.

    Attributes:
        name: also the name of the post step, ``post--<name>``.
        version: of the schema; a changed meaning is a new version.
        tensors: what the network emits and the post step reads.
        outputs: what the public model answers, in picture pixels.
        post: the pure function behind the post step, one picture at a time:
            ``post(tensors, geometry, parameters) -> outputs``.
    """

    name: str
    version: int
    task: tasks.Task
    tensors: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    post: Callable[[Mapping[str, np.ndarray], Geometry, Mapping[str, Any]], dict[str, np.ndarray]]

    @property
    def triton_name(self) -> str:
        """Name of the shared post step."""
        return f"post--{self.name}"


_BOXES = (Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)))

# boxes: corners in network pixels; scores in 0..1, one class a candidate, best candidates first.
DENSE_BOXES = HeadKind("dense-boxes", 1, dense_boxes.TASK, _BOXES, _BOXES, dense_boxes.post)

# As dense boxes, with the points of each candidate (x, y in network pixels); overlapping candidates are averaged.
KEYPOINTS = HeadKind(
    "keypoints", 1, keypoints.TASK,
    (*_BOXES, Tensor("keypoints", "FP32", (-1, -1, 2))), (*_BOXES, Tensor("keypoints", "FP32", (-1, -1, 2))),
    keypoints.post,
)  # fmt: skip

# logits, and scores with the model's own activation (softmax, or sigmoid for independent labels) in the graph.
CLASSES = HeadKind(
    "classes", 1, classes.TASK,
    (Tensor("logits", "FP32", (-1,)), Tensor("scores", "FP32", (-1,))),
    (Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,))),
    classes.post,
)  # fmt: skip

# boxes: corners in fractions of the picture, not clipped; scores in 0..1, best first. Nothing to suppress.
QUERY_BOXES = HeadKind("query-boxes", 1, query_boxes.TASK, _BOXES, _BOXES, query_boxes.post)

# As dense boxes, with the weights of each candidate's mask over prototypes that all share. masks: one a box, COCO run
# lengths of the whole picture or the outer contour as little-endian int32 x, y pairs, as the caller asks.
PROTOTYPE_MASKS = HeadKind(
    "prototype-masks", 1, prototype_masks.TASK,
    (*_BOXES, Tensor("coefficients", "FP32", (-1, 32)), Tensor("prototypes", "FP32", (32, -1, -1))),
    (*_BOXES, Tensor("masks", "STRING", (-1,))),
    prototype_masks.post,
)  # fmt: skip

# What the network says is the answer: vectors as the authors give them, not normalised where they do not.
_EMBEDDING = (Tensor("embeddings", "FP32", (-1,)),)
EMBEDDINGS = HeadKind("embeddings", 1, embeddings.TASK, _EMBEDDING, _EMBEDDING, embeddings.post)

# map: network size in, picture size out; as uint16 over its range (lo, hi), value = lo + map * (hi - lo) / 65535.
DENSE_MAP = HeadKind(
    "dense-map", 1, dense_map.TASK,
    (Tensor("map", "FP32", (-1, -1)),), (Tensor("map", "UINT16", (-1, -1)), Tensor("range", "FP32", (2,))),
    dense_map.post,
)  # fmt: skip

HEADS: dict[str, HeadKind] = {
    head.name: head
    for head in (DENSE_BOXES, KEYPOINTS, CLASSES, QUERY_BOXES, PROTOTYPE_MASKS, EMBEDDINGS, DENSE_MAP)
}
