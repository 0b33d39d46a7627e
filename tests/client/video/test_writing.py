"""Videos that are written: every picture with its time, the sound beside them, and playable whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from videos import film, number_of, read_all, striped

from tritonvision.client.video.opening import open_video
from tritonvision.client.video.sound import Sound
from tritonvision.client.video.writing import VideoWriter
from tritonvision.errors import InvalidParameter, InvalidPicture, SetupError

TREE = Path(__file__).parents[3]


def written(target, pictures, times, sound=None, say=pytest.fail, whole=True) -> list:
    """The frames of a video of RGB ``pictures``, read back."""
    writer = VideoWriter(target, 25.0, sound, say)
    for picture, time in zip(pictures, times, strict=True):
        writer.add(picture[..., ::-1], time)
    writer.close(whole)
    return read_all(open_video(str(target), pytest.fail))


@pytest.mark.parametrize("ending", ["mp4", "mov", "m4v", "mkv"])
def test_pictures_come_back_in_order_with_their_times(tmp_path, ending):
    times = [0, 0.04, 0.08, 0.5, 0.51, 1 + 1 / 3, 3.0]
    found = written(tmp_path / "deeper" / f"out.{ending}", map(striped, range(7)), times)
    assert [number_of(frame.pixels) for frame in found] == list(range(7))
    assert [frame.time for frame in found] == pytest.approx(times, abs=1e-3 if ending == "mkv" else 2e-5)


def test_no_picture_is_lost_where_two_have_the_same_time(tmp_path):
    found = written(tmp_path / "out.mp4", map(striped, range(4)), [0.2, 0.2, 0.1, 0.4])
    assert [number_of(frame.pixels) for frame in found] == list(range(4))


def test_colours_stay_and_the_file_says_how_it_holds_them(tmp_path):
    colours = [(200, 30, 30), (30, 180, 30), (40, 40, 220), (128, 128, 128), (250, 250, 250)]
    pictures = [np.full((720, 1280, 3), colour, np.uint8) for colour in colours]
    found = written(tmp_path / "out.mp4", pictures, [n / 25 for n in range(5)])
    for frame, colour in zip(found, colours, strict=True):
        assert np.abs(frame.pixels.mean((0, 1)) - colour).max() < 5
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range) == (1, 1, 1, 1)
        assert stream.codec_context.pix_fmt == "yuv420p" and stream.codec_context.name == "h264"


@pytest.mark.parametrize("size", [(95, 161), (1, 1), (2, 3)])
def test_odd_sizes_are_padded_by_one_pixel(tmp_path, size):
    found = written(tmp_path / "out.mp4", [np.full((*size, 3), 90, np.uint8)] * 3, [0, 0.1, 0.2])
    assert [frame.pixels.shape for frame in found] == [(size[0] + size[0] % 2, size[1] + size[1] % 2, 3)] * 3


def test_pictures_of_another_size_are_fitted_into_the_first_and_that_is_said_once(tmp_path):
    said, wide = [], [striped(n, 48, 160) for n in (2, 3)]
    found = written(tmp_path / "out.mp4", [striped(1), *wide], [0, 0.1, 0.2], say=said.append)
    assert [frame.pixels.shape for frame in found] == [(96, 160, 3)] * 3
    assert [number_of(frame.pixels) for frame in found] == [1, 2, 3]
    assert found[1].pixels[:20].max() < 20  # a black bar above
    assert len(said) == 1 and "160 x 48" in said[0]


def sound_of(path) -> list[tuple[float, bytes]]:
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.dts is not None]


@pytest.mark.parametrize(
    ("before", "after", "codec"),
    [
        ("mp4", "mp4", "aac"), ("mkv", "mp4", "flac"), ("webm", "mp4", "libopus"), ("mov", "mov", "alac"),
        ("mp4", "m4v", "aac"), ("avi", "mkv", "pcm_s16le"), ("mp4", "mkv", "aac"),
    ],
)  # fmt: skip
def test_sound_is_copied_as_it_is_beside_the_pictures(tmp_path, before, after, codec):
    kind = {"webm": "libvpx-vp9", "avi": "mpeg4"}.get(before, "libx264")
    source, target = film(tmp_path / f"film.{before}", 50, codec=kind, sound=codec), tmp_path / f"out.{after}"
    frames = written(target, map(striped, range(50)), [n / 25 for n in range(50)], Sound(str(source)))
    was, now = sound_of(source), sound_of(target)
    assert [data for _, data in now] == [data for _, data in was]
    # both begin when they began: a format without negative times shows pictures and sound later, by the same
    later = now[0][0] - was[0][0]
    assert [time - later for time, _ in now] == pytest.approx([time for time, _ in was], abs=2e-3)
    assert frames[0].time == pytest.approx(later, abs=2e-3) and 0 <= later < 0.1


def test_sound_ends_with_the_pictures_of_a_video_that_was_not_written_to_its_end(tmp_path):
    source = film(tmp_path / "film.mp4", 50, sound="aac")
    written(tmp_path / "out.mp4", map(striped, range(10)), [n / 25 for n in range(10)], Sound(str(source)), whole=False)
    assert 0.2 < sound_of(tmp_path / "out.mp4")[-1][0] < 0.5


def test_sound_that_the_format_cannot_hold_is_left_out_and_that_is_said(tmp_path):
    source, said = film(tmp_path / "film.avi", 25, codec="mpeg4", sound="pcm_s16le"), []
    times = [n / 25 for n in range(25)]
    found = written(tmp_path / "out.mp4", map(striped, range(25)), times, Sound(str(source)), said.append)
    assert len(found) == 25 and len(said) == 1 and "pcm_s16le" in said[0]
    silent = film(tmp_path / "silent.mp4", 3)
    written(tmp_path / "out2.mp4", map(striped, range(3)), times[:3], Sound(str(silent)))  # says nothing


def test_sound_is_read_from_the_file_itself_and_not_from_addresses_in_it(tmp_path):
    (tmp_path / "film.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/part.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(InvalidPicture):
        Sound(str(tmp_path / "film.m3u8"))


def test_without_a_picture_there_is_no_file(tmp_path):
    VideoWriter(tmp_path / "out.mp4", 25.0, None, pytest.fail).close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_what_was_written_can_be_played_after_the_process_was_killed(tmp_path, ending):
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TREE / "tests" / "support")!r})
from videos import striped
from tritonvision.client.video.writing import VideoWriter
writer = VideoWriter(Path({str(tmp_path / f"out.{ending}")!r}), 25.0, None, print)
for number in range(300):
    writer.add(striped(number)[..., ::-1], number / 25)
print("written", flush=True)
sys.stdin.read()
"""
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stdin=pipe, text=True)
    assert process.stdout.readline() == "written\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with av.open(str(tmp_path / f"out.{ending}")) as container:
        numbers = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert numbers == list(range(len(numbers))) and len(numbers) >= 150


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(InvalidParameter, match=r"not written as \.avi"):
        VideoWriter(tmp_path / "out.avi", 25.0, None, pytest.fail)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SetupError, match="cannot be written"):
        VideoWriter(tmp_path / "file" / "out.mp4", 25.0, None, pytest.fail)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_told(tmp_path):
    target = tmp_path / "out.mkv"
    target.symlink_to("/dev/full")
    with pytest.raises(SetupError, match="cannot be written: no space left"):
        written(target, map(striped, range(60)), [n / 25 for n in range(60)])
