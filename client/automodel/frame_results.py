"""Answers in the form in which AutoModel gives them: of several pictures, and of the frames of a video."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tritonvision import tasks
from tritonvision.client.automodel.servers import Servers, say
from tritonvision.client.connections import Connection
from tritonvision.engine.facts import Facts
from tritonvision.results import ClassificationPrediction, Result

if TYPE_CHECKING:
    from tritonvision.client.video.frames import Frame


@dataclass(frozen=True)
class FrameResult:
    """One frame of a video and the answer about it.

    Attributes:
        number: of the frame, from 0; of a live source numbers are left out where frames were skipped.
        time: seconds since the start of the video, or since a live source was opened.
        result: what :meth:`AutoModel.infer` answers about one picture, without the list around it.
        tracker_id: (n,) int64, the id of each box, -1 where it has none; None when nothing is tracked.
    """

    number: int
    time: float
    result: Any
    tracker_id: np.ndarray | None
    _pixels: np.ndarray = field(repr=False)

    @cached_property
    def image(self) -> np.ndarray:
        """The frame, BGR uint8 ``[h, w, 3]``, as OpenCV and supervision take it."""
        return np.ascontiguousarray(self._pixels[..., ::-1])

    def to_supervision(self) -> Any:
        """``supervision.Detections`` of the boxes, with their ids. Raises NotSupported where there are none."""
        from tritonvision.client.video.tracking import boxes_of

        found = boxes_of(self.result).to_supervision()
        found.tracker_id = self.tracker_id
        return found


def frame_results(
    servers: Servers, connection: Connection, facts: Facts, source: str | int | os.PathLike,
    settings: Mapping[str, Any], track: Any, most: int | None,
) -> Iterator[FrameResult]:  # fmt: skip
    """See :meth:`AutoModel.video`; the source is opened when the first frame is asked for."""
    from tritonvision.client.video.in_order import in_order
    from tritonvision.client.video.opening import open_video
    from tritonvision.client.video.tracking import Tracks

    frames = open_video(str(source), say)

    def ask_all(asked: Connection) -> AsyncGenerator[tuple[Frame, Result], None]:
        async def ask(frame: Frame) -> Result:
            (result,) = await asked.infer(facts, [frame.npy()], settings)
            return result

        return in_order(frames, ask, most)

    try:
        tracks = Tracks(frames.rate, None if track is True else track) if track else None
        with closing(servers.iterate(connection, ask_all)) as answers:
            for frame, result in answers:
                ids = None if tracks is None else tracks.ids(result, frame.time)
                yield FrameResult(frame.number, frame.time, _alone(facts.task, result), ids, frame.pixels)
    finally:
        frames.close()


def _alone(task: str, result: Result) -> Any:
    """One picture's result in the form of its task."""
    found = gathered(task, [result])
    if isinstance(found, tuple):
        return tuple(part[0] for part in found)
    return found[0] if isinstance(found, list) else found


def gathered(task: str, results: list[Any]) -> Any:
    """The results of several pictures in the form of their task, see :meth:`AutoModel.infer`."""
    first = results[0]
    if isinstance(first, ClassificationPrediction):
        return ClassificationPrediction(
            np.concatenate([result.class_id for result in results]),
            np.concatenate([result.confidence for result in results]),
            [metadata for result in results for metadata in result.images_metadata or ()],
        )
    if task == tasks.EMBEDDING.name:
        return np.concatenate(results)
    if task == tasks.DEPTH_ESTIMATION.name:
        return [result.values for result in results]
    if isinstance(first, tuple):
        return tuple(map(list, zip(*results, strict=True)))
    return results
