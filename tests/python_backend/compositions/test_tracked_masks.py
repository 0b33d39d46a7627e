"""The state of a stream: what it keeps, for how long, and what is refused. Networks are stand-ins."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidParameter
from tritonvision.python_backend.compositions import tracked_masks
from tritonvision.python_backend.compositions.tracked_masks import FRAMES, OBJECTS, PROMPTED, TASK, Composition
from tritonvision.tasks import resolve

SIDE, WIDTH, HEIGHT = 64, 40, 30
OPTIONS = {
    "side": SIDE, "filled": {"levels": ["high_res_s0", "high_res_s1"], "offset": 0.05, "stable": 0.98}, "memories": 7,
    "pointers": 16, "few": 1,
}  # fmt: skip
BOX = {"boxes": [[2, 3, 20, 15]]}


class Networks:
    """Stand-ins that remember what they were asked; a mask is everything left of the middle of the first two points."""

    def __init__(self):
        self.asked = []

    def __call__(self, role, inputs, outputs):
        self.asked.append((role, {name: value.copy() for name, value in inputs.items()}))
        grid = SIDE // 16
        if role == "encoder":
            return {
                "embeddings": np.ones((1, 256, grid, grid), np.float32),
                "high_res_s0": np.ones((1, 32, 4 * grid, 4 * grid), np.float32),
                "high_res_s1": np.ones((1, 64, 2 * grid, 2 * grid), np.float32),
            }
        if role == "attention":
            return {"conditioned": inputs["embeddings"]}
        if role == "memory":
            return {"memory": np.zeros((1, 64, grid, grid), np.float32)}
        masks = np.ones((1, 1, 4, 4 * grid, 4 * grid), np.float32)
        masks[..., 8:] = -1
        return {
            "low_res_masks": masks, "iou_scores": np.float32([[[0.1, 0.2, 0.9, 0.3]]]),
            "object_scores": np.float32([[[2.0]]]), "pointers": np.zeros((1, 1, 4, 256), np.float32),
        }  # fmt: skip

    def last(self, role):
        return next(inputs for name, inputs in reversed(self.asked) if name == role)

    @property
    def roles(self):
        return [role for role, _ in self.asked]


def png(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def networks():
    return Networks()


@pytest.fixture
def step(networks):
    """``step(image, **settings)`` on one stream; ``step.state`` is its state."""
    composition = Composition(networks, OPTIONS)
    state = composition.begin()

    def ask(image=None, **given):
        sample = {} if image is None else {"image": image}
        return composition.answer(sample, resolve(TASK.parameters, given), None, state)

    ask.state = state
    return ask


def test_what_is_prompted_stands_for_itself_and_what_is_tracked_is_seen_through_memories(step, networks):
    answer = step(png(), **BOX)
    assert networks.roles == ["encoder", "decoder", "memory"] and networks.last("memory")["prompted"] == 1
    assert networks.last("decoder")["point_labels"].tolist() == [[[2, 3, -1]]]
    assert answer["object_ids"].tolist() == [0] and answer["scores"][0] == pytest.approx(1 / (1 + np.exp(-2.0)))
    step(png(1))
    assert networks.roles[3:] == ["encoder", "attention", "decoder", "memory"]
    assert networks.last("memory")["prompted"] == 0
    assert networks.last("decoder")["point_labels"].tolist() == [[[-1, -1]]]
    step(png(2))
    asked = networks.last("attention")
    assert asked["memory_ages"].tolist() == [[6, 0]] and asked["pointer_ages"].tolist() == [[2, 1]]


def test_memories_are_of_prompts_and_of_the_six_frames_before(step, networks):
    step(png(), **BOX)
    for _ in range(20):
        step(png())
    asked = networks.last("attention")
    assert asked["memory_ages"].tolist() == [[6, 5, 4, 3, 2, 1, 0]] and asked["memories"].shape == (1, 7, 64, 4, 4)
    assert asked["pointer_ages"].tolist() == [[20, *range(1, 16)]]
    step(points=[[5, 6]], frame=13)  # the oldest that is kept
    asked = networks.last("attention")
    assert asked["memory_ages"].tolist() == [[6, 5, 4, 3, 2, 1, 0]] and asked["memories"].shape == (1, 7, 64, 4, 4)


def test_the_state_of_a_stream_is_bounded(step):
    prompts = {"boxes": [[2, 3, 20, 15]] * OBJECTS, "box_objects": list(range(OBJECTS))}
    sizes = [int(step(png(i), **(prompts if i % 2 else BOX if not i else {}))["state_bytes"][0]) for i in range(60)]
    assert sizes[-1] == step.state.nbytes and max(sizes[40:]) <= 1.01 * sizes[40]
    assert len(step.state.frames) == FRAMES and min(step.state.frames) == 60 - FRAMES
    for one in step.state.objects.values():
        assert len(one.prompted) <= PROMPTED and len(one.seen) <= FRAMES + 16
        remembered = (*one.prompted.values(), *one.seen.values())
        assert sum(memory.mask.size > 0 for memory in remembered) <= FRAMES
        assert sum(memory.features.size > 0 for memory in one.seen.values()) <= FRAMES + 6
    assert 0 in step.state.objects[0].prompted, "the first prompt stays"


def test_large_frames_are_kept_up_to_a_number_of_bytes(step, monkeypatch):
    monkeypatch.setattr(tracked_masks, "_FRAME_BYTES", 2 * len(png()) + 100)
    step(png(), **BOX)
    for i in range(5):
        step(png(i))
    assert list(step.state.frames) == [4, 5]


def test_prompts_without_a_frame_are_about_the_last_one_or_the_one_they_name(step, networks):
    step(png(), **BOX)
    step(png(1))
    assert step(points=[[5, 6]])["frame"].tolist() == [1]
    assert networks.roles[-3:] == ["attention", "decoder", "memory"], "a frame that was tracked is corrected"
    assert step(points=[[5, 6]], point_objects=[4], frame=0)["object_ids"].tolist() == [0, 4]
    assert step.state.count == 2 and set(step.state.objects[4].prompted) == {0}


def test_one_point_chooses_among_proposals_and_a_box_does_not(step, networks):
    step(png(), points=[[5, 6]])
    proposed = networks.last("memory")["mask"]
    step(png(), boxes=[[2, 3, 20, 15]])
    assert proposed.shape == networks.last("memory")["mask"].shape == (1, 1, SIDE // 4, SIDE // 4)


def test_objects_are_forgotten_when_asked(step):
    step(png(), boxes=[[2, 3, 20, 15]] * 2, box_objects=[7, 8])
    assert step(png(), forget=[7])["object_ids"].tolist() == [8]
    with pytest.raises(InvalidParameter, match="nothing to follow"):
        step(png(), forget=[8])


@pytest.mark.parametrize("given, sentence", [
    ({}, "nothing to follow"),
    ({"boxes": [[5, 5, 2, 9]]}, "left, top"), ({"boxes": [[5, 5, 50, 9]]}, "outside the frame"),
    ({"boxes": [[1, 2, 3, 4]] * 2, "box_objects": [1, 1]}, "another object"),
    ({"boxes": [[1, 2, 3, 4]], "box_objects": [1, 2]}, "another object"),
    ({"points": [[1, 2]], "point_labels": [1, 0]}, "same length"), ({"points": [[1, 2]], "point_labels": [2]}, "label"),
    ({"points": [[1, 99]]}, "outside the frame"), ({"points": [[1, 2]] * 257}, "256 points"),
    ({"boxes": [[1, 2, 3, 4]] * (OBJECTS + 1)}, f"{OBJECTS} objects"),
    ({"boxes": [[1, 2, 3, 4]], "frame": 3}, "number 0, not 3"),
])  # fmt: skip
def test_what_cannot_be_followed_is_refused_and_changes_nothing(step, given, sentence):
    with pytest.raises(InvalidParameter, match=sentence):
        step(png(), **given)
    assert step.state.count == 0 and not step.state.objects and not step.state.frames


def test_prompts_about_frames_that_are_not_there_say_which_ones_are(step):
    with pytest.raises(InvalidParameter, match="no frame yet"):
        step(**BOX)
    step(png(), **BOX)
    with pytest.raises(InvalidParameter, match="no frame 4 yet"):
        step(**BOX, frame=4)
    for i in range(FRAMES):
        step(png(i))
    with pytest.raises(InvalidParameter, match="frame 0 is forgotten; the oldest that is kept is 1") as refused:
        step(**BOX, frame=0)
    assert refused.value.hint
