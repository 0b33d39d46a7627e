"""Ids are the tracker library's own."""

from __future__ import annotations

import numpy as np
import pytest
import supervision as sv
from trackers import ByteTrackTracker, OCSORTTracker

from tritonvision.client.video.tracking import NO_ID, Tracks
from tritonvision.errors import NotSupported
from tritonvision.results import Detections, KeyPoints


def scene(number: int) -> Detections:
    """Three boxes that cross each other, one of them unsure at times, one hidden for a while; in changing order."""
    places = [(10 + 4 * number, 40), (210 - 4 * number, 60), (100, 10 + 3 * number)]
    scores = [0.9, 0.95, 0.8 if number % 5 else 0.45]
    shown = [i for i in range(3) if not (i == 1 and 10 <= number < 16)]
    order = sorted(shown, key=lambda i: -(scores[i] - (number % 2) * 0.3 * i))
    boxes = np.array([(x, y, x + 50, y + 40) for x, y in (places[i] for i in order)], np.float32)
    return Detections(boxes, np.array(order, np.int32), np.array([scores[i] for i in order], np.float32))


def ids_by_object(found: list[tuple[np.ndarray, np.ndarray]]) -> list[dict[int, int]]:
    return [dict(zip(classes.tolist(), ids.tolist(), strict=True)) for classes, ids in found]


@pytest.mark.parametrize("own", [None, OCSORTTracker])
def test_ids_are_those_of_the_library_called_directly(own):
    tracks = Tracks(25.0, None if own is None else own(frame_rate=25.0))
    ours = ids_by_object([(scene(n).class_id, tracks.ids(scene(n), n / 25)) for n in range(40)])
    library, theirs = (own or ByteTrackTracker)(frame_rate=25.0), []
    for n in range(40):
        boxes = scene(n)
        found = library.update(
            sv.Detections(boxes.xyxy, confidence=boxes.confidence, class_id=boxes.class_id), timestamp=n / 25
        )
        theirs.append((found.class_id, found.tracker_id))
    assert ours == ids_by_object(theirs)
    assert ours[9] == {0: ours[8][0], 1: ours[8][1], 2: ours[8][2]} and len({*ours[9].values()} - {NO_ID}) == 3
    assert own or ours[39][1] == ours[9][1]  # ByteTrack knows the hidden one again


def test_frames_without_boxes_have_no_ids_and_do_not_end_a_track():
    tracks, nothing = Tracks(25.0), Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0))
    assert tracks.ids(nothing, 0.0).shape == (0,)
    first = [tracks.ids(scene(n), n / 25) for n in (1, 2, 3)][-1]
    assert tracks.ids(nothing, 4 / 25).dtype == np.int64
    assert set(tracks.ids(scene(5), 5 / 25)) >= set(first) - {NO_ID}


def test_boxes_beside_key_points_are_tracked_and_what_has_no_boxes_is_refused():
    points = KeyPoints(np.zeros((3, 2, 2), np.float32), np.zeros(3), np.ones((3, 2), np.float32))
    assert Tracks(25.0).ids((points, scene(1)), 0.0).tolist() == [NO_ID] * 3
    with pytest.raises(NotSupported, match="no boxes"):
        Tracks(25.0).ids(np.zeros((1, 8), np.float32), 0.0)
