"""What ``predict`` takes for videos, and where it writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tritonvision.cli.video import Watched, are_videos
from tritonvision.errors import InvalidParameter

FACE = "mediapipe-face-detection"


def wanted(save: str | None = None, *, track: bool = False, most: int | None = None) -> Watched:
    return Watched("coco/3", None, None if save is None else Path(save), False, track, most)


def test_videos_are_known_by_their_names_or_because_a_person_says_so():
    assert are_videos(["a.mp4", "rtsp://cam/1", "0"], False, wanted())
    assert not are_videos(["a.jpg", "b.gif", "http://cam/photo"], False, wanted())
    assert are_videos(["http://cam/stream"], True, wanted())


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["a.mp4", "b.jpg"], {}, "one command each"), (["b.jpg"], {"track": True}, "--track is for videos"),
        (["b.jpg"], {"most": 3}, "--max-frames is for videos"), (["a.mp4"], {"save": "out.avi"}, "not written as .avi"),
        (["a.mp4", "b.mp4"], {"save": "out.mp4"}, "into a folder"), (["a.mp4"], {"save": "./a.mp4"}, "over itself"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_hint(names, options, words):
    with pytest.raises(InvalidParameter, match=words) as caught:
        are_videos(names, False, wanted(**options))
    assert caught.value.hint


def test_a_folder_gets_a_file_for_each_video_and_none_is_written_twice(tmp_path):
    folder = wanted(str(tmp_path))
    camera = "rtsp://u:secret@cam.local:554/live/main"
    names = ["a/film.mov", "b/film.mp4", "0", "/dev/video1", camera, "rtsp://cam", "-"]
    assert [folder.target(name).name for name in names] == [
        "film-coco_3.mp4", "film-coco_3-2.mp4", "camera-0-coco_3.mp4", "camera-1-coco_3.mp4", "main-coco_3.mp4",
        "cam-coco_3.mp4", "stdin-coco_3.mp4",
    ]  # fmt: skip
    assert wanted("out.mp4").target("film.mov") == Path("out.mp4")
    assert wanted().target("film.mov") is None
