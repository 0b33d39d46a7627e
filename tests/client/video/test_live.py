"""Streams that do not end: the newest frame counts, and a cut connection is made again."""

from __future__ import annotations

import threading
import time

import pytest
from live_sources import LiveSource
from videos import number_of

from tritonvision.client.video.opening import open_video

KINDS = ("rtsp", "mpegts", "mjpeg")


class Said(list):
    """What was said, and waiting for it."""

    def __init__(self):
        self._more = threading.Condition()

    def __call__(self, sentence: str) -> None:
        with self._more:
            self.append(sentence)
            self._more.notify_all()

    def wait_for(self, words: str) -> None:
        with self._more:
            assert self._more.wait_for(lambda: any(words in sentence for sentence in self), 15), list(self)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_a_stream_come_in_order_with_its_count(kind):
    with LiveSource(kind) as source:
        frames = open_video(source.url, print)
        try:
            found = [frames.read() for _ in range(5)]
        finally:
            frames.close()
    assert frames.live and frames.total is None
    numbers, shown = [frame.number for frame in found], [number_of(frame.pixels) for frame in found]
    assert numbers == sorted(set(numbers))
    assert [b - a for a, b in zip(shown, shown[1:], strict=False)] == [
        b - a for a, b in zip(numbers, numbers[1:], strict=False)
    ]
    assert all(0 <= a.time < b.time for a, b in zip(found, found[1:], strict=False))


def test_a_slow_reader_gets_the_newest_frame_and_the_skipped_are_counted():
    with LiveSource("mpegts", rate=50) as source:
        frames = open_video(source.url, print)
        try:
            first = frames.read()
            threading.Event().wait(0.5)  # the work of a slow reader
            second = frames.read()
            third = frames.read()
        finally:
            frames.close()
        assert second.number - first.number > 10  # of 25
        assert third.number - second.number <= 2
        assert frames.skipped >= second.number - first.number - 1


def test_a_cut_connection_is_made_again_within_five_seconds_of_the_source_being_back():
    said = Said()
    with LiveSource("rtsp") as source:
        frames = open_video(source.url, said)
        try:
            last = frames.read()
            source.cut()
            said.wait_for("was lost")
            source.resume()
            back = time.monotonic()
            said.wait_for("is back")
            frame = frames.read()
            while number_of(frame.pixels) > 100:  # a frame from before the cut
                frame = frames.read()
            assert time.monotonic() - back < 5
        finally:
            frames.close()
        assert source.connections == 2
    assert frame.number > last.number and frame.time > last.time  # one count, one clock


def test_a_source_that_stays_away_can_be_given_up():
    said = Said()
    with LiveSource("mjpeg") as source:
        frames = open_video(source.url, said)
        assert frames.read() is not None
        source.cut()
        said.wait_for("was lost")
    closing = threading.Timer(0.1, frames.close)
    closing.start()
    while frames.read() is not None:
        pass
    closing.join()
    assert frames.read() is None


def test_who_reads_is_told_what_ended_the_reading():
    """As where standard error is gone, to which it is said that the source was lost."""

    def gone(sentence):
        raise BrokenPipeError(sentence)

    with LiveSource("mpegts") as source:
        frames = open_video(source.url, gone)
        try:
            assert frames.read() is not None
            source.cut()
            with pytest.raises(BrokenPipeError, match="was lost"):
                while frames.read() is not None:
                    pass
        finally:
            frames.close()


def test_a_password_in_an_address_is_not_told():
    with LiveSource("mjpeg") as source:
        frames = open_video(source.url.replace("://", "://user:secret@"), print)
        frames.close()
    assert "secret" not in frames.name and frames.name == source.url
