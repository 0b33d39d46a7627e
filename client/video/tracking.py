"""Ids of objects that stay the same from frame to frame, by ByteTrack of the package ``trackers``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tritonvision.errors import NotSupported, SetupError
from tritonvision.results import Detections, Result

NO_ID = -1  # of a box that has no id yet, or is too unsure to get one


class Tracks:
    """The tracks of one video.

    Args:
        rate: frames a second; how long an object that is hidden keeps its id depends on it.
        tracker: an object with the method ``update(detections, timestamp=seconds)`` of ``trackers``; None for
            ByteTrack with that library's own thresholds: what has a score of 0.7 or more has an id from the next frame
            on, and keeps it at lower scores.

    Raises:
        SetupError: the library is not installed.
    """

    def __init__(self, rate: float, tracker: Any = None):
        self._tracker = tracker if tracker is not None else _byte_track(rate)

    def ids(self, result: Result, seconds: float) -> np.ndarray:
        """int64 ``(n,)``: the id of each box of the next frame, :data:`NO_ID` where there is none.

        Args:
            seconds: when the frame is shown; never before the one before it.

        Raises:
            NotSupported: the answer has no boxes.
        """
        import supervision as sv

        boxes = boxes_of(result)
        ids = np.full(len(boxes), NO_ID, dtype=np.int64)
        place: dict[str, Any] = {"place": np.arange(len(boxes))}  # the library may return them in another order
        given = sv.Detections(
            boxes.xyxy.astype(np.float32).reshape(-1, 4), confidence=boxes.confidence, class_id=boxes.class_id,
            data=place,
        )  # fmt: skip
        found = self._tracker.update(given, timestamp=seconds)
        if len(found):
            ids[found.data["place"]] = found.tracker_id
        return ids


def boxes_of(result: Result) -> Detections:
    """The boxes of an answer. Raises NotSupported."""
    parts = result if isinstance(result, tuple) else (result,)
    boxes = next((part for part in parts if isinstance(part, Detections)), None)
    if boxes is None:
        raise NotSupported("What this model answers has no boxes to track.", hint="Track with a detector or segmenter.")
    return boxes


def _byte_track(rate: float) -> Any:
    try:
        from trackers import ByteTrackTracker
    except ModuleNotFoundError as error:
        raise SetupError(
            "Tracking needs the package 'trackers', which is not installed.",
            hint="Get it with: pip install 'tritonvision[video]' && pip install --no-deps 'trackers>=2.6,<3'",
        ) from error
    return ByteTrackTracker(frame_rate=rate)
