"""The gaze composition: what it asks its face model and its network, and what it makes of their answers."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tritonvision.errors import InvalidPicture
from tritonvision.python_backend.compositions import gaze
from tritonvision.tasks import resolve

RGB = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
SIDE = 448


def png(picture):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()


class Models:
    """A face model that finds ``boxes``, and a network whose angles tell the faces apart by their mean colour."""

    def __init__(self, boxes=(), size=RGB.shape[:2]):
        self.boxes = np.array(boxes, np.float32).reshape(-1, 4)
        self.size = size
        self.asked = []

    def __call__(self, model, inputs, outputs):
        self.asked.append((model, inputs, list(outputs)))
        if model == gaze.FACES:
            count = len(self.boxes)
            answer = {
                "boxes": self.boxes, "scores": np.linspace(0.9, 0.6, count, dtype=np.float32),
                "keypoints": np.zeros((count, 6, 2), np.float32), "class_ids": np.zeros(count, np.int32),
                "image_size": np.array(self.size, np.int32),
            }  # fmt: skip
            return {name: answer[name][None] for name in outputs}
        means = inputs["pixels"].reshape(len(inputs["pixels"]), -1).mean(1, dtype=np.float64).astype(np.float32)
        answer = {"yaw": means[:, None], "pitch": -means[:, None]}
        return {name: answer[name] for name in outputs}

    def batches(self):
        return [inputs["pixels"] for model, inputs, _ in self.asked if model == ""]


def answer(models, picture=RGB, **given):
    composition = gaze.Composition(models, {"side": SIDE})
    return composition.answer({"image": png(picture)}, resolve(gaze.TASK.parameters, given), {"yaw"})


def test_every_face_gets_its_own_angles_in_the_order_of_the_face_model():
    models = Models([(0, 0, 40, 40), (100, 60, 160, 120)])
    got = answer(models)
    assert np.array_equal(got["boxes"], models.boxes) and got["scores"].tolist() == pytest.approx([0.9, 0.6])
    want = [gaze.face(RGB, box, SIDE).mean() for box in models.boxes]
    assert want[0] != pytest.approx(want[1], abs=0.01)
    np.testing.assert_allclose(got["yaw"], want, atol=1e-3)
    np.testing.assert_allclose(got["pitch"], -got["yaw"])
    assert got["image_size"].tolist() == [120, 160]
    assert got["seconds"].shape == (2,) and (got["seconds"] >= 0).all()


def test_the_face_model_gets_the_picture_as_it_came_and_the_callers_settings():
    models = Models()
    answer(models, confidence=0.7, auto_orient=False)
    (model, inputs, _), = models.asked  # fmt: skip
    assert model == "mediapipe-face-detection"
    assert inputs["image"].shape == inputs["parameters"].shape == (1, 1)
    assert inputs["image"][0, 0] == png(RGB)
    sent = json.loads(inputs["parameters"][0, 0])
    assert sent == {"auto_orient": False, "confidence": 0.7, "iou_threshold": 0.3}


def test_no_face_gives_empty_arrays_and_asks_the_network_nothing():
    models = Models()
    got = answer(models)
    assert {name: got[name].shape for name in ("boxes", "scores", "keypoints", "yaw", "pitch")} == {
        "boxes": (0, 4), "scores": (0,), "keypoints": (0, 6, 2), "yaw": (0,), "pitch": (0,),
    }  # fmt: skip
    assert got["yaw"].dtype == got["pitch"].dtype == np.float32 and not models.batches()


@pytest.mark.parametrize("count, batches", [(1, [1]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])])
def test_the_network_is_asked_about_at_most_eight_faces_at_once(count, batches):
    models = Models([(i, i, i + 30, i + 30) for i in range(count)])
    got = answer(models)
    assert [len(batch) for batch in models.batches()] == batches
    assert all(batch.shape[1:] == (448, 448, 3) and batch.dtype == np.uint8 for batch in models.batches())
    assert len(got["yaw"]) == len(got["pitch"]) == count


def test_without_looking_for_faces_the_whole_picture_is_one():
    models = Models([(0, 0, 40, 40)])
    got = answer(models, detect_faces=False)
    assert [model for model, *_ in models.asked] == [""]
    assert got["boxes"].tolist() == [[0, 0, 160, 120]] and got["scores"].tolist() == [1]
    assert got["keypoints"].shape == (1, 0, 2) and got["image_size"].tolist() == [120, 160]
    assert np.array_equal(models.batches()[0][0], gaze.face(RGB, got["boxes"][0], SIDE))


def test_the_picture_is_turned_as_its_exif_says_unless_that_is_off():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(RGB).save(stream, "JPEG", exif=exif)
    composition = gaze.Composition(Models(), {"side": SIDE})
    for auto_orient, size in ((True, [160, 120]), (False, [120, 160])):
        given = resolve(gaze.TASK.parameters, {"detect_faces": False, "auto_orient": auto_orient})
        assert composition.answer({"image": stream.getvalue()}, given)["image_size"].tolist() == size


def test_what_is_no_picture_is_refused():
    composition = gaze.Composition(Models(), {"side": SIDE})
    with pytest.raises(InvalidPicture):
        composition.answer({"image": b"no picture"}, resolve(gaze.TASK.parameters, {"detect_faces": False}))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (3, 40_000)], ids=str)
def test_a_picture_of_any_shape_can_be_one_face(size):
    picture = np.full((*size, 3), 77, np.uint8)
    got = answer(Models(), picture, detect_faces=False)
    assert got["yaw"].tolist() == [77] and got["boxes"].tolist() == [[0, 0, size[1], size[0]]]


@pytest.mark.parametrize(
    "box, pixel",
    [
        ((5.2, 7.1, 5.9, 7.8), (7, 5)),
        ((5, 7, 5, 7), (7, 5)),
        ((159.6, 119.7, 160, 120), (119, 159)),
        ((160, 120, 160, 120), (119, 159)),
        ((0, 0, 0, 0), (0, 0)),
    ],
)  # fmt: skip
def test_a_face_of_less_than_a_pixel_is_the_pixel_it_lies_in(box, pixel):
    assert (gaze.face(RGB, np.array(box, np.float32), SIDE) == RGB[pixel]).all()


def test_a_face_is_cut_at_whole_pixels_as_the_authors_cut_it():
    outside = RGB.copy()
    outside[:20] = outside[60:] = outside[:, :30] = outside[:, 90:] = 0
    box = np.array([30.9, 20.9, 90.9, 60.9], np.float32)
    assert np.array_equal(gaze.face(outside, box, SIDE), gaze.face(RGB, box, SIDE))


corners = st.tuples(*[st.floats(-50, 300, width=32)] * 4)


@settings(max_examples=60, deadline=None)
@given(corners)
def test_any_box_gives_a_face_of_pixels_of_the_picture(box):
    pixels = gaze.face(RGB, np.array(box, np.float32), 32)
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
