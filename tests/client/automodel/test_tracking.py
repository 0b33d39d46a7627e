"""``prompt`` and ``track`` of AutoModel: streams that begin, go on and end, and what inference-models' callers send."""

from __future__ import annotations

import io

import numpy as np
import pytest
from facade_thread import facade
from manifests import SIZE, manifest_of, publish
from PIL import Image
from pycocotools import mask as coco

from tritonvision import AutoModel, tasks
from tritonvision.client.automodel.tracking import Tracker
from tritonvision.errors import InvalidParameter, ServerUnavailable
from tritonvision.results import InstancesRLEMasks, TrackedMasks

HEIGHT, WIDTH = 4, 6


class Server:
    """Follows two objects in any stream."""

    def __init__(self):
        self.asked, self.ended, self.frames = [], [], {}

    def step(self, image, settings, stream):
        stream = len(self.frames) + 1 if stream is None else stream
        frame = self.frames[stream] = self.frames.get(stream, -1) + (image is not None)
        self.asked.append((image, settings, stream))
        masks = np.zeros((HEIGHT, WIDTH, 2), np.uint8, order="F")
        masks[:2, :3, 0] = 1
        counts = [one["counts"] for one in coco.encode(masks)]
        masks = InstancesRLEMasks((HEIGHT, WIDTH), counts)
        return stream, TrackedMasks(frame, np.int64([4, 9]), np.float32([1, 1]), masks)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def tracker(server):
    return Tracker(server.step, server.ended.append)


def test_masks_ids_and_a_state_come_back(tracker, server):
    masks, ids, state = tracker.prompt("frame", [(0, 0, 3, 2)])
    assert masks.shape == (2, HEIGHT, WIDTH) and masks.dtype == bool and masks[0].sum() == 6 and not masks[1].any()
    assert ids.tolist() == [4, 9] and state == {"stream": 1, "frame": 0}
    _, settings, _ = server.asked[0]
    assert settings["boxes"] == [[0, 0, 3, 2]] and settings["mask_format"] == "rle"


def test_track_goes_on_with_the_last_stream_or_with_the_one_of_its_state(tracker, server):
    _, _, first = tracker.prompt("a", [[0, 0, 3, 2]])
    _, _, kept = tracker.track("b")
    assert kept == {"stream": 1, "frame": 1}
    other = Tracker(server.step, server.ended.append)
    other.prompt("x", [[0, 0, 3, 2]])
    assert other.track("y", state_dict=first)[2] == {"stream": 1, "frame": 2}


def test_frames_have_the_order_of_colours_that_the_caller_names(tmp_path):
    publish(tmp_path, [manifest_of("sam2-rt-tiny", tasks.TRACKING.name, labels=())])
    red = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    red[..., 0] = 255
    with facade(tmp_path, "secret") as (engine, address, _):
        try:
            model = AutoModel.from_pretrained("sam2-rt-tiny", server=address, api_key="secret")
            model.prompt(red, [[2, 3, 20, 15]], input_color_format="rgb")
            model.track(red, input_color_format="rgb")
            model.track(red[..., ::-1])  # as OpenCV has it
            with pytest.raises(InvalidParameter, match="'stream'"):
                model.prompt(red, [[2, 3, 20, 15]], stream=True)
        finally:
            AutoModel.close()
        frames = [Image.open(io.BytesIO(frame)) for _, frame, *_ in engine.streams.asked]
    assert [frame.convert("RGB").getpixel((0, 0)) for frame in frames] == [(255, 0, 0)] * 3


def test_a_stream_whose_server_is_gone_is_in_the_way_of_no_other(server):
    def gone(stream):
        raise ServerUnavailable

    tracker = Tracker(server.step, gone)
    tracker.prompt("a", [[0, 0, 3, 2]])
    with pytest.raises(ServerUnavailable):
        tracker.prompt("b", [[0, 0, 3, 2]])
    assert tracker.prompt("b", [[0, 0, 3, 2]])[2] == {"stream": 2, "frame": 0}


def test_a_prompt_without_a_state_begins_anew_and_ends_the_stream_before(tracker, server):
    tracker.prompt("a", [[0, 0, 3, 2]])
    assert tracker.prompt("b", [[0, 0, 3, 2]])[2]["stream"] == 2 and server.ended == [1]


def test_prompts_may_come_later_and_about_frames_before(tracker, server):
    _, _, state = tracker.prompt("a", np.float32([[0, 0, 3, 2]]), object_ids=np.int64([7]))
    tracker.prompt("b", None, state, points=np.float32([[1, 1], [2, 2]]), point_labels=[1, 0], point_objects=[7, 7])
    tracker.prompt(None, [[0, 0, 2, 2]], state_dict=state, frame_idx=0, clear_old_prompts=True, normalize_coords=True)
    (_, first, _), (_, later, _), (image, before, stream) = server.asked
    assert first["box_objects"] == [7] and later["points"] == [[1, 1], [2, 2]] and later["point_objects"] == [7, 7]
    assert later["point_labels"] == [1, 0] and later["boxes"] is None
    assert image is None and before["frame"] == 0 and stream == 1


@pytest.mark.parametrize("call, sentence", [
    (lambda tracker: tracker.track("a"), "nothing to follow"),
    (lambda tracker: tracker.prompt("a"), "no prompt"),
    (lambda tracker: tracker.prompt(None, [[0, 0, 1, 1]]), "begins with a frame"),
    (lambda tracker: tracker.prompt("a", [[0, 0, 1]]), "rows of 4 numbers"),
    (lambda tracker: tracker.prompt("a", "box"), "rows of 4 numbers"),
    (lambda tracker: tracker.prompt("a", [[0, 0, 1, 1]], {"frame": 1}), "state_dict"),
    (lambda tracker: tracker.prompt("a", [[0, 0, 1, 1]], normalize_coords=False), "normalize_coords"),
    (lambda tracker: tracker.prompt("a", [[0, 0, 1, 1]], box="x"), "box"),
])  # fmt: skip
def test_what_cannot_be_followed_is_refused_before_anything_is_asked(tracker, server, call, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        call(tracker)
    assert not server.asked
