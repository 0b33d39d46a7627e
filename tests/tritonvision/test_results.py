import numpy as np
import pytest

from tritonvision.results import Detections, KeyPoints


@pytest.fixture
def detections():
    return Detections(
        xyxy=np.array([[1.25, 2, 30.5, 40], [5, 6, 7, 8]], dtype=np.float32), class_id=np.array([0, 3], dtype=np.int32),
        confidence=np.array([0.9, 0.5], dtype=np.float32), image_metadata={"height": 50, "width": 60},
        bboxes_metadata=[{"text": "a"}, {"text": "b"}],
    )  # fmt: skip


def test_detections_are_as_long_as_their_boxes_and_iterate_in_supervisions_order(detections):
    assert len(detections) == 2
    xyxy, mask, confidence, class_id, tracker_id, data, metadata = list(detections)[1]
    assert xyxy.tolist() == [5, 6, 7, 8] and mask is None and tracker_id is None
    assert (confidence, class_id, data) == (0.5, 3, {"text": "b"})
    assert metadata == {"height": 50, "width": 60}


def test_iteration_without_metadata_yields_empty_data(detections):
    detections.bboxes_metadata = None
    assert [row[5] for row in detections] == [{}, {}]


def test_supervision_gets_the_same_boxes_unrounded(detections):
    same = detections.to_supervision()
    assert np.array_equal(same.xyxy, detections.xyxy) and same.xyxy.dtype == np.float32
    assert same.class_id.tolist() == [0, 3] and same.confidence.tolist() == pytest.approx([0.9, 0.5])


def test_no_detection_is_an_empty_supervision_object():
    empty = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, np.float32))
    assert len(empty) == 0 and list(empty) == []
    assert len(empty.to_supervision()) == 0


def test_key_points_keep_their_places_in_supervision():
    xy = np.array([[[1.5, 2.5], [3, 4]]], dtype=np.float32)
    points = KeyPoints(xy, class_id=np.array([0]), confidence=np.ones((1, 2), np.float32))
    assert len(points) == 1
    same = points.to_supervision()
    assert np.array_equal(same.xy, xy) and same.class_id.tolist() == [0]
