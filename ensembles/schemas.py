"""Output schemas and postprocessors: what a public model answers, and how a network's tensors become that answer.

The two are separate: several postprocessors can produce one schema, and readers of an answer (a dialect, a parity
check, the manifest) depend on the schema only. All tensors carry a leading batch axis that is not written here; ``-1``
is an axis of any length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tritonvision import tasks
from tritonvision.ensembles.tensors import Tensor
from tritonvision.python_backend.postprocess import (
    classes,
    cropped_masks,
    dense_boxes,
    dense_map,
    embeddings,
    keypoints,
    prototype_masks,
    query_boxes,
)


@dataclass(frozen=True)
class OutputSchema:
    """What a public model answers.

    Attributes:
        name: in the manifest, and the key of the parity check.
        version: a changed meaning is a new version.
        outputs: in picture pixels.
    """

    name: str
    version: int
    task: tasks.Task
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Postprocessor:
    """A post step: the canonical tensors of a network to an answer.

    Attributes:
        name: of its module in ``python_backend/postprocess``, with ``-`` for ``_``.
        tensors: what the network emits and the step reads.
        function: one picture at a time: ``function(tensors, geometry, parameters, **options) -> outputs``.
        options: constants of a family, as sorted pairs; each set of them is a step of its own.
    """

    name: str
    tensors: tuple[Tensor, ...]
    function: Callable[..., dict[str, np.ndarray]]
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def triton_name(self) -> str:
        """Name of the shared Triton model, e.g. ``post--dense-boxes``."""
        return "-".join([f"post--{self.name}", *(str(value).replace(".", "p") for _, value in self.options)])

    def __call__(self, *args: Any) -> dict[str, np.ndarray]:
        """``function`` with the options: ``(tensors, geometry, parameters) -> outputs``."""
        return self.function(*args, **dict(self.options))


@dataclass(frozen=True)
class Head:
    """The postprocessor of a network of pictures, and the schema of its answer."""

    schema: OutputSchema
    postprocessor: Postprocessor

    @property
    def name(self) -> str:
        """Of the schema."""
        return self.schema.name

    @property
    def version(self) -> int:
        """Of the schema."""
        return self.schema.version

    @property
    def task(self) -> tasks.Task:
        """Of the schema."""
        return self.schema.task

    @property
    def triton_name(self) -> str:
        """Of the post step."""
        return self.postprocessor.triton_name

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """What the network emits."""
        return self.postprocessor.tensors

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What the public model answers."""
        return self.schema.outputs


def _head(
    name: str, module: Any, tensors: tuple[Tensor, ...], outputs: tuple[Tensor, ...], version: int = 1
) -> Head:
    """A schema and the postprocessor that came with it, of one name."""
    return Head(OutputSchema(name, version, module.TASK, outputs), Postprocessor(name, tensors, module.post))


def _final(head: Head) -> Head:
    """A head of the same schema and tensors, whose candidates are the answer already: none is suppressed."""
    return Head(head.schema, replace(head.postprocessor, options=(("given", dense_boxes.FINAL),)))


_BOXES = (Tensor("boxes", "FP32", (-1, 4)), Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,)))
_KEYPOINTS = (*_BOXES, Tensor("keypoints", "FP32", (-1, -1, 2)))

# boxes: corners in network pixels; scores in 0..1, one class a candidate, best candidates first.
DENSE_BOXES = _head("dense-boxes", dense_boxes, _BOXES, _BOXES)

# As dense boxes, which the network or its graph has suppressed already.
FINAL_BOXES = _final(DENSE_BOXES)

# As dense boxes, with the points of each candidate (x, y in network pixels); overlapping candidates are averaged.
KEYPOINTS = _head("keypoints", keypoints, _KEYPOINTS, _KEYPOINTS)

# logits, and scores with the model's own activation (softmax, or sigmoid for independent labels) in the graph.
CLASSES = _head(
    "classes", classes,
    (Tensor("logits", "FP32", (-1,)), Tensor("scores", "FP32", (-1,))),
    (Tensor("scores", "FP32", (-1,)), Tensor("class_ids", "INT32", (-1,))),
)  # fmt: skip

# boxes: corners in fractions of the picture, not clipped; scores in 0..1, best first. Nothing to suppress.
QUERY_BOXES = _head("query-boxes", query_boxes, _BOXES, _BOXES)

# As dense boxes, with the weights of each candidate's mask over prototypes that all share. masks: one a box, COCO run
# lengths of the whole picture or the outer contour as little-endian int32 x, y pairs, as the caller asks.
PROTOTYPE_MASKS = _head(
    "prototype-masks", prototype_masks,
    (*_BOXES, Tensor("coefficients", "FP32", (-1, 32)), Tensor("prototypes", "FP32", (32, -1, -1))),
    (*_BOXES, Tensor("masks", "STRING", (-1,))),
)  # fmt: skip

FINAL_MASKS = _final(PROTOTYPE_MASKS)

# The same answer from candidates that have a row a class, with masks that are cut before they are enlarged (YOLACT).
CROPPED_MASKS = Head(
    PROTOTYPE_MASKS.schema, Postprocessor("cropped-masks", PROTOTYPE_MASKS.tensors, cropped_masks.post)
)

# No postprocessing: vectors as the authors' code returns them, normalised only where theirs are.
_EMBEDDING = (Tensor("embeddings", "FP32", (-1,)),)
EMBEDDINGS = _head("embeddings", embeddings, _EMBEDDING, _EMBEDDING)

# map: network size in, picture size out; as uint16 over its range (lo, hi), value = lo + map * (hi - lo) / 65535.
DENSE_MAP = _head(
    "dense-map", dense_map,
    (Tensor("map", "FP32", (-1, -1)),), (Tensor("map", "UINT16", (-1, -1)), Tensor("range", "FP32", (2,))),
)  # fmt: skip

HEADS: dict[str, Head] = {
    head.name: head
    for head in (DENSE_BOXES, KEYPOINTS, CLASSES, QUERY_BOXES, PROTOTYPE_MASKS, EMBEDDINGS, DENSE_MAP)
}
