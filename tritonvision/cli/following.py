"""``tritonvision predict`` with a model that follows what it is shown on the first frame of a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pycocotools import mask as coco

from tritonvision import tasks
from tritonvision.cli.answers import Answer
from tritonvision.results import InstanceDetections, InstancesRLEMasks, TrackedMasks

if TYPE_CHECKING:
    from tritonvision.client.connections import Connection
    from tritonvision.engine.facts import Facts

_NAME = "object"  # of what a person pointed at and did not name


class Follower:
    """One stream: its first frame is asked with a prompt, each further one without.

    Args:
        prompt: settings of the task that show what is meant.
    """

    def __init__(self, connection: Connection, facts: Facts, prompt: dict[str, Any]):
        self._connection, self._facts, self._prompt = connection, facts, prompt
        self._stream: int | None = None

    async def ask(self, frame: bytes) -> Answer:
        """The answer about the next frame, encoded or ``.npy`` bytes. One call at a time.

        Raises:
            The errors of :mod:`tritonvision.errors`.
        """
        given = {} if self._stream is not None else self._prompt
        settings = tasks.resolve(tasks.TRACKING.parameters, given)
        self._stream, found = await self._connection.step(self._facts, frame, settings, self._stream)
        return _answer(found)

    async def end(self) -> None:
        """Forget the stream."""
        if self._stream is not None:
            await self._connection.end(self._facts, self._stream)


def _answer(found: TrackedMasks) -> Answer:
    """The objects that are in sight, with a box around each mask."""
    assert found.masks is not None, "run lengths are the task's default"
    masks = found.masks.to_coco_rle_masks()
    boxes = coco.toBbox(masks).reshape(-1, 4) if masks else np.zeros((0, 4))
    seen = np.flatnonzero(boxes[:, 2:].all(axis=1))
    corners = boxes[seen].astype(np.float32)
    corners[:, 2:] += corners[:, :2]
    shapes = InstancesRLEMasks(found.masks.image_size, [found.masks.masks[i] for i in seen])
    result = InstanceDetections(corners, np.zeros(len(seen), np.int32), found.scores[seen], mask=shapes)
    return Answer(result, (_NAME,), ids=found.object_ids[seen])
