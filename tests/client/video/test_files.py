"""Videos with an end: every frame once, turned and timed as the file says; damaged ones end in a sentence."""

from __future__ import annotations

import functools
import struct
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np
import pytest
from videos import film, number_of, read_all, striped, write

from tritonvision.client.video.opening import open_video
from tritonvision.errors import InvalidPicture, PictureTooLarge

KINDS = [
    ("mp4", "libx264"), ("mov", "mjpeg"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264"),
    ("webm", "libvpx-vp9"), ("mpg", "mpeg2video"), ("h264", "libx264"),
]  # fmt: skip


def opened(path, said=None):
    return open_video(str(path), said.append if said is not None else pytest.fail)


def noise(count: int) -> list[np.ndarray]:
    """Frames that no encoder makes small."""
    return [np.random.default_rng(i).integers(0, 255, (96, 160, 3), np.uint8) for i in range(count)]


@pytest.mark.parametrize(("ending", "codec"), KINDS)
def test_every_frame_of_a_file_is_given_once_in_order(tmp_path, ending, codec):
    frames = opened(film(tmp_path / f"film.{ending}", 12, codec=codec))
    assert not frames.live and frames.rate == 25
    found = read_all(frames)
    assert [frame.number for frame in found] == [number_of(frame.pixels) for frame in found] == list(range(12))
    assert [frame.time for frame in found] == pytest.approx([n / 25 for n in range(12)])
    assert all(frame.pixels.dtype == np.uint8 and frame.pixels.flags.c_contiguous for frame in found)
    assert frames.read() is None  # after closing


def test_frames_that_depend_on_later_ones_come_in_the_order_of_showing(tmp_path):
    found = read_all(opened(film(tmp_path / "film.mp4", 30, bf="4", preset="slow", b_adapt="2")))
    assert [number_of(frame.pixels) for frame in found] == list(range(30))


def test_each_frame_keeps_its_own_time(tmp_path):
    times = [0.0, 0.1, 0.15, 0.5, 2.0]
    found = read_all(opened(film(tmp_path / "film.mp4", 5, times=times)))
    assert [frame.time for frame in found] == pytest.approx(times)


def test_times_count_from_the_start_of_the_file_whatever_its_clock_said(tmp_path):
    path = film(tmp_path / "film.ts", 5, times=[10.0, 10.1, 10.2, 10.3, 10.4])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).time > 9
    assert [frame.time for frame in read_all(opened(path))] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-4)


CORNER = striped(0)
CORNER[:24, :40] = (250, 30, 30)  # red, above left


@pytest.mark.parametrize(
    ("rotation", "matrix", "where"),
    [
        (0, (1, 0, 0, 1), "top left"), (-90, (0, 1, -1, 0), "top right"), (90, (0, -1, 1, 0), "bottom left"),
        (180, (-1, 0, 0, -1), "bottom right"),
    ],
)  # fmt: skip
def test_a_video_that_a_telephone_took_upright_is_upright(tmp_path, rotation, matrix, where):
    path = write(tmp_path / "film.mp4", [CORNER] * 3, rotation=rotation)
    data = path.read_bytes()
    told = struct.unpack(">9i", data[(place := data.index(b"tkhd") + 44) : place + 36])
    # the matrix of ISO 14496-12: x' = ax + cy, y' = bx + dy; (0, 1, -1, 0) turns clockwise, as telephones write it
    assert tuple(value >> 16 for value in (told[0], told[1], told[3], told[4])) == matrix
    pixels = read_all(opened(path))[0].pixels
    assert pixels.shape == ((96, 160, 3) if rotation in (0, 180) else (160, 96, 3))
    vertical, horizontal = where.split()
    corner = pixels[:12] if vertical == "top" else pixels[-12:]
    corner = corner[:, :12] if horizontal == "left" else corner[:, -12:]
    assert corner[..., 0].mean() > 200 and pixels[..., 0].mean() < 60


def test_a_video_of_one_frame_has_one_frame(tmp_path):
    (frame,) = read_all(opened(film(tmp_path / "film.mp4", 1)))
    assert frame.number == 0 and frame.time == 0


def test_a_stream_without_a_rate_or_times_is_numbered_and_timed(tmp_path):
    path = film(tmp_path / "film.h264", 6)  # bare H.264 has no clock
    with av.open(str(path)) as container:
        assert container.duration is None and not container.streams.video[0].frames
    frames = opened(path)
    assert frames.total is None
    assert [frame.time for frame in read_all(frames)] == pytest.approx([n / 25 for n in range(6)])


def test_a_video_that_says_0_frames_a_second_is_numbered_and_timed(tmp_path):
    path = film(tmp_path / "film.avi", 6, codec="mpeg4")
    data = bytearray(path.read_bytes())
    period, rate = data.index(b"avih") + 8, data.index(b"strh") + 8 + 24
    data[period : period + 4] = data[rate : rate + 4] = bytes(4)
    path.write_bytes(data)
    frames = opened(path)
    found = read_all(frames)
    assert [number_of(frame.pixels) for frame in found] == [frame.number for frame in found] == list(range(6))
    times = [frame.time for frame in found]
    assert frames.rate > 0 and times == sorted(set(times)) and times[0] == 0


def test_frames_have_the_size_that_each_has(tmp_path):
    small = write(tmp_path / "small.ts", [striped(n, 64, 80) for n in range(5)])
    path = film(tmp_path / "film.ts", 5)
    path.write_bytes(path.read_bytes() + small.read_bytes())
    found = read_all(opened(path))
    assert [frame.pixels.shape[:2] for frame in found] == [(96, 160)] * 5 + [(64, 80)] * 5
    assert [number_of(frame.pixels) for frame in found] == [0, 1, 2, 3, 4] * 2


def test_a_film_behind_an_address_is_a_file_and_not_live(tmp_path):
    film(tmp_path / "film.mkv", 12)
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        frames = opened(f"http://127.0.0.1:{server.server_port}/film.mkv")
        found = read_all(frames)
        server.shutdown()
    assert not frames.live and [number_of(frame.pixels) for frame in found] == list(range(12))
    with pytest.raises(InvalidPicture, match="Nothing answers"):
        opened(f"http://127.0.0.1:{server.server_port}/film.mkv")


def test_standard_input_is_a_file_too(tmp_path):
    program = """
from tritonvision.client.video.opening import open_video
frames = open_video("-", print)
while (frame := frames.read()) is not None:
    print(frame.number)
"""
    with film(tmp_path / "film.mkv", 5).open("rb") as data:
        done = subprocess.run([sys.executable, "-c", program], stdin=data, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "1", "2", "3", "4"], done.stderr


# ---- what is no video, or not a whole one ----------------------------------------------------------------------------


def assert_told(path, words: str) -> None:
    with pytest.raises(InvalidPicture, match=words) as caught:
        read_all(opened(path))
    assert caught.value.hint and str(path.parent) not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"hello world\n" * 100, bytes(range(256)) * 9])
def test_what_is_no_video_is_told(tmp_path, content):
    (tmp_path / "film.mp4").write_bytes(content)
    assert_told(tmp_path / "film.mp4", "no video that can be read")


def test_a_file_that_is_not_there_a_folder_and_sound_alone_are_told(tmp_path):
    assert_told(tmp_path / "film.mp4", "no such file")
    assert_told(tmp_path, "a folder")
    song = film(tmp_path / "film.mkv", 25, sound="aac")
    with av.open(str(song)) as source, av.open(str(tmp_path / "song.mkv"), "w") as target:
        copy = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    assert_told(tmp_path / "song.mkv", "no video in it")


def test_a_list_of_addresses_is_not_followed(tmp_path):
    (tmp_path / "film.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/part.ts\n#EXT-X-ENDLIST\n")
    assert_told(tmp_path / "film.m3u8", r"cannot be|no video")


def test_a_recording_without_its_index_is_told(tmp_path):
    path = write(tmp_path / "film.mp4", noise(10))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_told(path, "has no index")


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
@pytest.mark.parametrize("share", [0.4, 0.8])
def test_of_a_video_that_ends_in_the_middle_every_frame_is_given_and_then_it_is_told(tmp_path, ending, share):
    whole, path = write(tmp_path / f"whole.{ending}", noise(50)), tmp_path / f"film.{ending}"
    with av.open(str(whole)) as source, av.open(str(path), "w", options={"movflags": "faststart"}) as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    frames, found = opened(path), []
    with pytest.raises(InvalidPicture, match=r"ends in the middle: [\d.]+ s of 2.0 s could be read, \d+ frames"):
        while True:
            found.append(frames.read())
    assert 50 * share - 5 < len(found) < 50 * share + 5 and None not in found


def test_a_video_without_a_key_frame_is_told(tmp_path):
    path = tmp_path / "film.ts"
    with av.open(str(film(tmp_path / "whole.ts"))) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None and not packet.is_keyframe:
                packet.stream = copy
                target.mux(packet)
    assert_told(path, "none of its pictures can be decoded")


def test_damage_within_a_video_costs_its_frames_and_is_told(tmp_path):
    path, said = tmp_path / "film.mkv", []
    with av.open(str(film(tmp_path / "whole.mkv", codec="mpeg4", g="1"))) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(source.streams.video[0])):
            if packet.dts is not None:
                damaged = av.Packet(b"\xff" * 40) if number in (5, 6) else packet
                damaged.stream, damaged.time_base = copy, packet.time_base
                damaged.pts, damaged.dts = packet.pts, packet.dts
                target.mux(damaged)
    found = read_all(opened(path, said))
    assert [number_of(frame.pixels) for frame in found] == [0, 1, 2, 3, 4, *range(7, 20)]
    assert [frame.number for frame in found] == list(range(18))
    assert len(said) == 1 and "2 damaged parts" in said[0]


def test_a_frame_over_the_limit_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("tritonvision.client.video.frames.MAX_PIXELS", 96 * 160 - 1)
    with pytest.raises(PictureTooLarge, match="160 x 96"):
        opened(film(tmp_path / "film.mp4", 1)).read()
