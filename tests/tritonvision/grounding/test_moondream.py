"""Moondream's places: what its reader writes, read back."""

import json

import pytest

from tritonvision.grounding import caption, parse

BOX = {"x_min": -0.1, "y_min": 0.2, "x_max": 0.5, "y_max": 0.6}


def test_boxes_are_read_and_cut_at_the_edge():
    text = json.dumps({"object": "red car", "objects": [BOX, {"x_min": 0.7, "y_min": 0.1, "x_max": 0.9, "y_max": 1.4}]})
    (found,) = parse("moondream", text, 640, 480)
    assert found.phrase == "red car" and found.points == ()
    assert found.boxes == ((0, 0.2, 0.5, 0.6), (0.7, 0.1, 0.9, 1))
    assert caption(text, [found]) == "red car"


def test_points_are_read():
    (found,) = parse("moondream", '{"object": "face", "points": [{"x": 0.25, "y": 0.5}]}', 640, 480)
    assert found.points == ((0.25, 0.5),) and found.boxes == ()


@pytest.mark.parametrize(
    "text",
    [
        "A cat sits there.", "", '{"object": "cat", "objects": []}', '{"objects": 3, "points": {"x": 1}}',
        '{"object": "cat", "objects": [{"x_min": "a"}, 4, null], "points": [{"x": 1}]}',
    ],
)  # fmt: skip
def test_what_names_no_place_is_no_place(text):
    assert parse("moondream", text, 640, 480) == []

