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
from tritonvision.python_backend.heads import classes, dense_boxes, keypoints
from tritonvision.python_backend.resize import Geometry


@dataclass(frozen=True)
class Tensor:
    """Name, Triton data type (``FP32``, ``INT32``, ...) and axes of one tensor."""

    name: str
    dtype: str
    dims: tuple[int, ...]


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

HEADS: dict[str, HeadKind] = {head.name: head for head in (DENSE_BOXES, KEYPOINTS, CLASSES)}
