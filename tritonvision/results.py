"""One result type a task, in numpy. Boxes are float32 pixels of the oriented picture; dialects round, types do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision import run_lengths

if TYPE_CHECKING:
    from tritonvision.grounding.grounded import Grounded


@dataclass
class Detections:
    """Boxes of one picture, best first.

    Attributes:
        xyxy: (n, 4) float32, pixels, corners.
        class_id: (n,) int32.
        confidence: (n,) float32 in 0..1.
        image_metadata: facts about the picture, ``{"height": h, "width": w}`` at least, or None.
        bboxes_metadata: one dict a box, or None.
    """

    xyxy: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    image_metadata: dict[str, Any] | None = None
    bboxes_metadata: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[tuple]:
        """Tuples in supervision's order: xyxy, mask, confidence, class_id, tracker_id, data, metadata."""
        for i in range(len(self)):
            data = self.bboxes_metadata[i] if self.bboxes_metadata else {}
            yield self.xyxy[i], None, self.confidence[i], self.class_id[i], None, data, self.image_metadata

    def to_supervision(self):
        """``supervision.Detections`` with the same boxes; needs the ``client`` extra."""
        import supervision as sv

        return sv.Detections(
            xyxy=self.xyxy.astype(np.float32).reshape(-1, 4), confidence=self.confidence, class_id=self.class_id
        )


def parts(found: Detections) -> list[int]:
    """Rows of the smallest regions of a page of text, which no other region is a part of: its words, or its lines
    where these are not divided.
    """
    told = found.bboxes_metadata or []
    whole = {more["parent"] for more in told}
    return [row for row in range(len(told)) if row not in whole]


@dataclass
class KeyPoints:
    """Named points of every instance in one picture, parallel to the :class:`Detections` they come with.

    Attributes:
        xy: (n, k, 2) float32, pixels.
        class_id: (n,) int32.
        confidence: (n, k) float32.
    """

    xy: np.ndarray
    class_id: np.ndarray
    confidence: np.ndarray
    image_metadata: dict[str, Any] | None = None
    key_points_metadata: list[dict[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.xy)

    def to_supervision(self):
        """``supervision.KeyPoints`` with the same points; needs the ``client`` extra."""
        import supervision as sv

        return sv.KeyPoints(
            xy=self.xy.astype(np.float32), class_id=self.class_id, keypoint_confidence=self.confidence
        )


@dataclass
class ClassificationPrediction:
    """Single-label scores of a batch of pictures.

    Attributes:
        class_id: (bs,) int64, the best class of each picture.
        confidence: (bs, num_classes) float32, the whole softmax.
    """

    class_id: np.ndarray
    confidence: np.ndarray
    images_metadata: list[dict[str, Any]] | None = None


@dataclass
class MultiLabelClassificationPrediction:
    """Multi-label scores of one picture.

    Attributes:
        class_ids: (m,) int64, classes at or over the threshold.
        confidence: (num_classes,) float32, the whole sigmoid.
    """

    class_ids: np.ndarray
    confidence: np.ndarray
    image_metadata: dict[str, Any] | None = None


@dataclass
class InstancesRLEMasks:
    """Masks of one picture as COCO's compressed run lengths.

    Attributes:
        image_size: (height, width) of the picture every mask covers.
        masks: the ``counts`` of each mask.
    """

    image_size: tuple[int, int]
    masks: list[bytes]

    def to_coco_rle_masks(self) -> list[dict[str, Any]]:
        """``{"size": [height, width], "counts": bytes}`` a mask, as pycocotools reads them."""
        return [{"size": list(self.image_size), "counts": counts} for counts in self.masks]

    def only(self, i: int) -> InstancesRLEMasks:
        """The ``i``-th mask alone."""
        return InstancesRLEMasks(self.image_size, [self.masks[i]])

    def to_dense(self) -> np.ndarray:
        """bool ``[n, height, width]``. Raises ValueError of run lengths that do not cover the picture exactly."""
        if not self.masks:
            return np.zeros((0, *self.image_size), dtype=bool)
        return np.stack([run_lengths.decode(counts, *self.image_size) for counts in self.masks])


@dataclass
class InstanceDetections(Detections):
    """Boxes with the shape of what is in them.

    Attributes:
        mask: of the whole picture, one a box, when run lengths were asked for.
        polygons: (k, 2) int32 pixels, the outer contour a box, when polygons were asked for.
    """

    mask: InstancesRLEMasks | None = None
    polygons: list[np.ndarray] | None = None

    def to_supervision(self):
        """``supervision.Detections`` with dense masks, where there are masks."""
        found = super().to_supervision()
        if self.mask is not None:
            found.mask = self.mask.to_dense()
        return found


@dataclass
class DepthMap:
    """How far away every pixel of one picture is.

    Attributes:
        values: (height, width) float32, of the picture's own size; without a unit, unless the model's notes name one.
        meaning: ``inverse-depth``, larger is nearer, or ``depth``, larger is farther; empty where nobody tells, which
            :meth:`nearness` takes for the former.
    """

    values: np.ndarray
    meaning: str
    image_metadata: dict[str, Any] | None = None

    def nearness(self) -> np.ndarray:
        """(height, width) float32 in 0..1, 1 the nearest; zeros where everything is equally far."""
        low, high = float(self.values.min()), float(self.values.max())
        if not high > low:
            return np.zeros_like(self.values)
        share = (self.values - low) / (high - low)
        return 1 - share if self.meaning == "depth" else share


@dataclass
class SAMPrediction:
    """What one prompt selects in one picture, best proposal not necessarily first.

    Attributes:
        scores: (k,) float32, the IoU that the network expects of each mask.
        masks: of the whole picture, when run lengths were asked for.
        polygons: (m, 2) int32 pixels, the outer contour of each mask, when polygons were asked for.
        logits: (k, 256, 256) float32, the masks as the network gave them: a later prompt may take one along.
    """

    scores: np.ndarray
    masks: InstancesRLEMasks | None = None
    polygons: list[np.ndarray] | None = None
    logits: np.ndarray | None = None
    image_metadata: dict[str, Any] | None = None

    def to_supervision(self):
        """``supervision.Detections`` with a dense mask and its box each; needs the ``client`` extra."""
        import supervision as sv

        dense = self.masks.to_dense() if self.masks else np.zeros((0, 0, 0), dtype=bool)
        return sv.Detections(xyxy=sv.mask_to_xyxy(dense).astype(np.float32), mask=dense, confidence=self.scores)


@dataclass
class SAMImageEmbeddings:
    """A picture as the encoder sees it.

    Attributes:
        embeddings: (256, 64, 64) float32.
        image_size_hw: of the picture.
        high_resolution_features: of SAM2, float32 (32, 256, 256) and (64, 128, 128); of SAM none.
    """

    embeddings: np.ndarray
    image_size_hw: tuple[int, int]
    high_resolution_features: tuple[np.ndarray, ...] = ()


@dataclass
class TrackedMasks:
    """The objects of a stream on one frame.

    Attributes:
        frame: its number in the stream, from 0.
        object_ids: (n,) int64.
        scores: (n,) float32, how surely each object is seen; the mask of one that is not is empty.
        masks: of the whole frame, when run lengths were asked for.
        polygons: (m, 2) int32 pixels, the outer contour of each mask, when polygons were asked for.
        state_bytes: what the server keeps of the stream.
    """

    frame: int
    object_ids: np.ndarray
    scores: np.ndarray
    masks: InstancesRLEMasks | None = None
    polygons: list[np.ndarray] | None = None
    image_metadata: dict[str, Any] | None = None
    state_bytes: int = 0

    def to_supervision(self):
        """``supervision.Detections`` with a dense mask and its box each; needs the ``client`` extra."""
        import supervision as sv

        dense = self.masks.to_dense() if self.masks else np.zeros((0, 0, 0), dtype=bool)
        boxes = sv.mask_to_xyxy(dense).astype(np.float32)
        return sv.Detections(xyxy=boxes, mask=dense, confidence=self.scores, tracker_id=self.object_ids)


@dataclass
class L2CSGazeDetection:
    """Where the faces of one picture look.

    Attributes:
        yaw: (n,) float32 radians, left and right.
        pitch: (n,) float32 radians, up and down.
    """

    yaw: np.ndarray
    pitch: np.ndarray


@dataclass(frozen=True)
class Delta:
    """What one step of a writing model adds to its answer.

    Attributes:
        text: new text; empty while a character or a stop text is not whole.
        token_ids: (n,) int64, new tokens.
        finish_reason: empty until the last one, then ``stop`` (it ended, or met a stop text) or ``length``.
        usage: tokens of the prompt, pictures included, and of the answer so far.
        masks: with the last one, of a model that writes masks: uint8 ``[n,64,64]``, each within the box written before
            it, in the order of the answer; 128 and more is inside. None where it wrote none.
        cached_tokens: how many of the prompt's were not read again, because a prompt before began with them.
        logprobs: of each new token, where they were asked for: ``token`` (its text), ``bytes`` of that or None,
            ``logprob``, and ``top_logprobs``, the likeliest tokens of its place in the same form.
        places: with the last one, what the whole answer says of places in its picture; None where nobody read them,
            see :mod:`tritonvision.grounding.located`.
    """

    text: str
    token_ids: np.ndarray
    finish_reason: str = ""
    usage: tuple[int, int] = (0, 0)
    masks: np.ndarray | None = None
    cached_tokens: int = 0
    logprobs: tuple[Mapping[str, Any], ...] = ()
    places: tuple[Grounded, ...] | None = None


# What one picture's answer may be; an embedding is float32 (1, D), a line of text is text, a page of text is its text
# and the boxes of blocks, lines and words, whose ``bboxes_metadata`` hold ``text`` and ``parent`` (a row, or -1), and,
# where they may be turned, ``polygon``, the corners [x, y] in pixels, clockwise from the upper left of the text.
Result = (
    Detections
    | InstanceDetections
    | tuple[KeyPoints, Detections]
    | tuple[KeyPoints, Detections, L2CSGazeDetection]
    | ClassificationPrediction
    | MultiLabelClassificationPrediction
    | DepthMap
    | SAMPrediction
    | TrackedMasks
    | SAMImageEmbeddings
    | np.ndarray
    | str
    | tuple[str, Detections]
)
