"""Videos through the running server: the command line and AutoModel, with the answers of single pictures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from live_sources import LiveSource
from trackers import ByteTrackTracker
from videos import read_all, write

from tritonvision import AutoModel, tasks
from tritonvision.client.video.opening import open_video
from tritonvision.errors import InvalidPicture, NotSupported

TREE = Path(__file__).parents[2]
FACE, TRACKS = "mediapipe-face-detection", "tests/small-tracks/1"


def scene(number: int) -> np.ndarray:
    """RGB uint8 ``[240, 320, 3]``: a face that moves."""
    photo = cv2.imread(str(TREE / "tritonvision" / "data" / "astronaut.png"))[..., ::-1]
    moved = np.float32([[0.6, 0, 10 + 3 * number], [0, 0.6, -5]])
    return cv2.warpAffine(np.ascontiguousarray(photo), moved, (320, 240), borderMode=cv2.BORDER_REFLECT)


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    """Twelve frames with sound."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    return write(path, [scene(n) for n in range(12)], sound="aac")


@pytest.fixture(scope="module")
def model(server_url):
    """The face model of the server, over HTTP."""
    yield AutoModel.from_pretrained(FACE, server=server_url)
    AutoModel.close()


def command(server_url: str, *arguments: object, model_id: str = FACE) -> list[str]:
    python = os.environ.get("TRITONVISION_TEST_PYTHON", sys.executable)
    return [python, "-m", "tritonvision", "predict", model_id, *map(str, arguments), "--url", server_url]


def run(server_url: str, *arguments: object, model_id: str = FACE) -> subprocess.CompletedProcess:
    words = command(server_url, *arguments, model_id=model_id)
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)


def test_predict_answers_every_frame_as_a_picture_of_its_own_and_saves_them(server_url, model, film, tmp_path):
    done = run(server_url, film, "--track", "--json", "--save", tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    frames = read_all(open_video(str(film), pytest.fail))
    assert [line["frame"] for line in told] == list(range(12)) == [frame.number for frame in frames]
    assert [line["time"] for line in told] == [round(frame.time, 6) for frame in frames]
    library = ByteTrackTracker(frame_rate=25.0)
    for frame, line in zip(frames, told, strict=True):
        _, (boxes,) = model.infer(frame.pixels, input_color_format="rgb")
        assert [p["box"] for p in line["predictions"]] == [[round(float(v), 2) for v in box] for box in boxes.xyxy]
        ids = library.update(boxes.to_supervision(), timestamp=frame.time).tracker_id
        assert [p["tracker_id"] for p in line["predictions"]] == [int(i) if i >= 0 else None for i in ids]
    assert told[-1]["predictions"][0]["tracker_id"] is not None

    saved = read_all(open_video(str(tmp_path / "out.mp4"), pytest.fail))
    assert [frame.time for frame in saved] == pytest.approx([frame.time for frame in frames], abs=1e-4)
    differs = [np.abs(a.pixels.astype(int) - b.pixels).max(axis=2) > 60 for a, b in zip(frames, saved, strict=True)]
    left, top, right, bottom = map(int, told[5]["predictions"][0]["box"])
    assert differs[5][top : bottom + 1, left - 2 : right + 2].sum() > 100  # a box is drawn there,
    assert not differs[5][: top - 30].any() and not differs[5][:, right + 60 :].any()  # and not there
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert len(container.streams.audio) == 1


def test_predict_says_a_line_a_frame_and_how_fast_it_was(server_url, film):
    done = run(server_url, film, "--max-frames", 3)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("frame ")] == [
        f"frame {n}, {n / 25:.2f} s: 1 prediction" for n in range(3)
    ]
    assert lines[-1].startswith(f"{film}: 3 frames answered, ") and lines[-1].endswith(" a second")
    assert done.stderr == ""  # no progress bar where no person looks


def test_ctrl_c_leaves_a_video_of_what_was_answered(server_url, tmp_path):
    film = write(tmp_path / "long.mp4", [scene(n % 20) for n in range(150)])
    asked = subprocess.Popen(
        command(server_url, film, "--json", "--save", tmp_path / "out.mp4"), stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs in the background ignores it
    )  # fmt: skip
    for _ in range(5):
        assert asked.stdout.readline()
    asked.send_signal(signal.SIGINT)
    told = 5 + len(asked.stdout.readlines())
    assert asked.wait(30) == 130
    saved = read_all(open_video(str(tmp_path / "out.mp4"), pytest.fail))
    assert told - 1 <= len(saved) <= told < 150  # a frame is told, then saved


def test_what_reads_the_lines_may_stop(server_url, film):
    asked = subprocess.Popen(
        command(server_url, film, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert asked.stdout.readline()
    asked.stdout.close()
    assert "Error" not in asked.stderr.read()
    assert asked.wait(30) == 0


def test_a_stream_is_answered_until_enough(server_url):
    with LiveSource("mpegts") as source:
        done = run(server_url, source.url, "--json", "--max-frames", 4)
    assert done.returncode == 0, done.stderr
    numbers = [json.loads(line)["frame"] for line in done.stdout.splitlines()]
    assert len(numbers) == 4 and numbers == sorted(set(numbers))


def test_what_is_shown_on_the_first_frame_is_followed_as_automodel_follows_it(server_url, film, tmp_path):
    shown = "--box", "60,30,200,200", "--point", "120,90"
    done = run(server_url, film, *shown, "--json", "--save", tmp_path / "out.mp4", "--max-frames", 5, model_id=TRACKS)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["frame"] for line in told] == list(range(5))
    assert len(read_all(open_video(str(tmp_path / "out.mp4"), pytest.fail))) == 5
    followed = AutoModel.from_pretrained(TRACKS, server=server_url)
    frames, areas = read_all(open_video(str(film), pytest.fail)), []
    for line in told:
        picture = frames[line["frame"]].pixels[:, :, ::-1]
        if not line["frame"]:
            masks, ids, _ = followed.prompt(picture, [[60, 30, 200, 200]], points=[[120, 90]])
        else:
            masks, ids, _ = followed.track(picture)
        assert ids.tolist() == [0]
        ours = [(prediction["tracker_id"], prediction["area"]) for prediction in line["predictions"]]
        assert ours == [(0, int(masks[0].sum()))] if masks.any() else not ours
        areas += [int(masks[0].sum())]
    assert len(set(areas)) > 2, "masks that never change prove nothing"


def test_what_follows_is_asked_with_something_to_follow_and_about_videos(server_url, film, tmp_path):
    done = run(server_url, film, model_id=TRACKS)
    assert done.returncode == 2 and "has to be shown what is meant" in done.stderr and "--box" in done.stderr
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), scene(0))
    done = run(server_url, picture, "--point", "120,90", model_id=TRACKS)
    assert done.returncode == 1 and "follows through a video" in done.stderr and "Give a video" in done.stderr


def test_a_video_that_ends_in_the_middle_is_answered_as_far_as_it_goes(server_url, tmp_path):
    pictures = [np.random.default_rng(n).integers(0, 255, (96, 160, 3), np.uint8) for n in range(20)]
    cut = write(tmp_path / "cut.mkv", pictures)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    done = run(server_url, cut, tmp_path / "none.mp4", "--json")
    assert done.returncode == 1
    assert 5 < len(done.stdout.splitlines()) < 15
    assert "cut.mkv: The video ends in the middle" in done.stderr and "none.mp4: There is no such" in done.stderr
    assert done.stderr.count("Hint: ") == 2


def test_automodel_gives_the_frames_of_a_video_with_the_answers_of_single_pictures(model, film):
    found = list(model.video(film, track=True, confidence=0.5))
    assert [frame.number for frame in found] == list(range(12))
    assert [frame.time for frame in found] == pytest.approx([n / 25 for n in range(12)])
    for frame in found[::4]:
        (points,), (boxes,) = model.infer(frame.image, confidence=0.5)
        assert np.array_equal(frame.result[0].xy, points.xy) and np.array_equal(frame.result[1].xyxy, boxes.xyxy)
    shown = found[-1].to_supervision()
    assert shown.tracker_id.tolist() == found[-1].tracker_id.tolist() == [0]
    assert [frame.tracker_id for frame in model.video(film, max_frames=2)] == [None, None]


def test_automodel_says_what_is_wrong_with_a_video(model, tmp_path):
    with pytest.raises(InvalidPicture, match="no such file"):
        next(model.video(tmp_path / "none.mp4"))
    with pytest.raises(NotSupported, match="videos are not asked for"):
        AutoModel(replace(model._facts, task=tasks.PROMPTABLE.name), model._connection, model._settings).video("a.mp4")


def test_an_iterator_that_is_left_early_ends_its_work(model, film):
    frames = model.video(film)
    assert next(frames).number == 0
    frames.close()
    assert [frame.number for frame in model.video(film, max_frames=1)] == [0]
