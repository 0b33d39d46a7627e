"""What is taken for a video by its name, and what is said when it cannot be opened."""

from __future__ import annotations

import pytest

from tritonvision.client.video.opening import is_camera, is_video, open_video, shown_name
from tritonvision.errors import InvalidPicture, SetupError


@pytest.mark.parametrize(
    "source",
    [
        "film.mp4", "FILM.MOV", "a/b.mkv", "0", "12", "/dev/video0", "rtsp://cam/stream", "RTSP://u:p@cam:554/x",
        "rtmp://host/app", "udp://127.0.0.1:5000", "http://cam/live.mjpg", "https://host/film.mp4?token=1.jpg",
        "http://[cam/film.mp4",
    ],
)  # fmt: skip
def test_these_are_videos(source):
    assert is_video(source)


@pytest.mark.parametrize(
    "source", ["photo.jpg", "film.gif", "-", "", "photos/", "http://cam/photo", "http://cam/photo.jpg?x=.mp4", "1e3"]
)
def test_these_are_not(source):
    assert not is_video(source)


def test_a_file_called_like_a_number_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_camera("0")
    (tmp_path / "0").write_bytes(b"")
    assert not is_camera("0") and not is_video("0")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://me:secret@cam:554/a?b=c", "rtsp://cam:554/a?b=c"), ("http://me@cam/x.mjpg", "http://cam/x.mjpg"),
        ("rtsp://cam/a@b", "rtsp://cam/a@b"), ("a@b.mp4", "a@b.mp4"), ("http://me:s@cr@[cam/x", "http://[cam/x"),
        ("rtsp://cam?a=b@c", "rtsp://cam?a=b@c"),
    ],
)
def test_a_source_is_named_without_user_and_password(source, shown):
    assert shown_name(source) == shown


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("93", SetupError, "There is no camera 93"), ("/dev/video93", SetupError, "There is no camera"),
        ("rtsp://127.0.0.1:9/x", InvalidPicture, "Nothing answers"),
        ("tcp://127.0.0.1:9", InvalidPicture, "Nothing answers"),
        ("http://127.0.0.1:9/film.mp4", InvalidPicture, "Nothing answers"),
        ("nobody://127.0.0.1/x", InvalidPicture, "cannot be read"),
        ("film\0.mp4", InvalidPicture, "no such file"),
    ],
)
def test_what_cannot_be_opened_is_one_sentence_and_a_hint(source, kind, words):
    with pytest.raises(kind, match=words) as caught:
        open_video(source, pytest.fail)
    assert caught.value.hint and "\n" not in caught.value.message
