"""The step around a composition: what it asks of others, and what becomes of several pictures in one request."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tritonvision.errors import InvalidParameter, InvalidPicture
from tritonvision.python_backend import composition, step

FACES = "mediapipe-face-detection"


def png(width=64, height=48):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (90, 60, 30)).save(stream, "PNG")
    return stream.getvalue()


def images(*pictures):
    found = np.empty((len(pictures), 1), dtype=object)
    found[:, 0] = pictures
    return found


@pytest.fixture
def gaze(triton, tmp_path):
    """The composition of L2CS; the face model finds as many faces as the picture is 16 pixels wide."""
    (tmp_path / "1").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    asked = []

    def answer(model, inputs):
        asked.append((model, inputs))
        if model == FACES:
            count = Image.open(io.BytesIO(inputs["image"][0, 0])).width // 16
            return {
                "boxes": np.tile(np.float32([1, 2, 30, 40]), (1, count, 1)), "scores": np.ones((1, count), np.float32),
                "keypoints": np.ones((1, count, 6, 2), np.float32), "image_size": np.int32([[48, 64]]),
            }  # fmt: skip
        count = len(inputs["pixels"])
        return {name: np.arange(1, count + 1, dtype=np.float32)[:, None] for name in ("yaw", "pitch")}

    triton.InferenceRequest.answer = staticmethod(answer)
    made = composition.TritonPythonModel()
    parameters = {"composition": "gaze", "nets": '{"": "net--m"}', "options": '{"side": 32}'}
    made.initialize(triton.args(tmp_path, parameters))
    made.asked = asked
    return made


OUTPUTS = ["boxes", "yaw", "keypoints", "image_size"]


def test_networks_are_asked_by_their_role_and_models_by_their_name(gaze):
    found = gaze.answer({"image": images(png(16))}, OUTPUTS)
    assert [model for model, _ in gaze.asked] == [FACES, "net--m"]
    assert set(found) == set(OUTPUTS) and found["boxes"].shape == (1, 1, 4)
    assert json.loads(gaze.asked[0][1]["parameters"][0, 0])["auto_orient"] is True


def test_what_is_cached_of_one_variant_is_not_read_by_another(triton, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    told = {"composition": "promptable-masks", "nets": "{}", "options": '{"side": 1024}'}
    keys = set()
    for variant in ({}, {"variant": "openvino-bf16"}, {"variant": "openvino-int8"}):
        made = composition.TritonPythonModel()
        made.initialize(triton.args(tmp_path, told | variant))
        keys.add(made.composition._model)
    assert len(keys) == 3


def test_pictures_with_different_numbers_of_faces_are_one_batch(gaze):
    found = gaze.answer({"image": images(png(16), png(48), png(8))}, OUTPUTS)
    assert found["yaw"].tolist() == [[1, 0, 0], [1, 2, 3], [0, 0, 0]]
    assert found["boxes"].shape == (3, 3, 4) and (found["boxes"][0, 1:] == 0).all()
    assert found["keypoints"].shape == (3, 3, 6, 2) and found["image_size"].shape == (3, 2)


def test_each_picture_has_its_own_settings(gaze, triton):
    sent = {"image": images(png(16), png(16)), "parameters": triton.texts({"confidence": 0.5}, {"confidence": 0.9})}
    gaze.answer(sent, ["yaw"])
    faces = [json.loads(inputs["parameters"][0, 0]) for model, inputs in gaze.asked if model == FACES]
    assert [settings["confidence"] for settings in faces] == [0.5, 0.9]
    with pytest.raises(InvalidParameter, match="'loudness'"):
        gaze.answer({"image": images(png()), "parameters": triton.texts({"loudness": 1})}, ["yaw"])


def test_answers_whose_other_axes_differ_are_no_batch(gaze, triton):
    sent = {"image": images(png(16), png(16)), "parameters": triton.texts({}, {"detect_faces": False})}
    assert gaze.answer(sent, ["yaw"])["yaw"].shape == (2, 1)
    with pytest.raises(InvalidParameter, match="differ in shape"):
        gaze.answer(sent, ["keypoints"])


def test_what_a_composition_asks_has_the_id_of_its_request(gaze, triton):
    """So that what these models take is told as a part of the same request."""
    gaze.execute([triton.Request({"image": images(png(16))}, ["yaw"], "tv0123456789abcdef")])
    assert triton.InferenceRequest.ids == ["tv0123456789abcdef"] * 2


def test_what_a_part_refuses_with_is_the_refusal_and_what_it_breaks_with_is_not_shown(gaze, triton):
    def answer(model, inputs):
        return triton.TritonError(said)

    triton.InferenceRequest.answer = staticmethod(answer)
    said = "in ensemble 'x', [invalid_picture] The picture is empty."
    (response,) = gaze.execute([triton.Request({"image": images(png())}, ["yaw"])])
    assert response.error().message() == "[invalid_picture] The picture is empty."
    said = "failed at /home/somebody/secret.py, line 3"
    (response,) = gaze.execute([triton.Request({"image": images(png())}, ["yaw"])])
    assert response.error().message() == "[server_unavailable] A part of the model does not answer: m."


def test_a_network_of_the_models_own_process_is_asked_there(triton, tmp_path, monkeypatch):
    class Own:
        def __init__(self, files):
            self.files = files

        def __call__(self, role, inputs, outputs):
            raise InvalidPicture(f"{role} {self.files[role].name}")

    monkeypatch.setattr(composition, "Sessions", Own)
    (tmp_path / "1").mkdir()
    (tmp_path / "manifest.json").write_text("{}")
    made = composition.TritonPythonModel()
    parameters = {"composition": "gaze", "sessions": '{"": "model.onnx"}', "options": '{"side": 32}'}
    made.initialize(triton.args(tmp_path, parameters))
    sent = {"image": images(png()), "parameters": triton.texts({"detect_faces": False})}
    with pytest.raises(InvalidPicture, match=" model.onnx"):
        made.answer(sent, ["yaw"])


def test_a_model_that_is_published_anew_has_another_identity(triton, tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    args = triton.args(tmp_path, {})
    first = step.identity(args, {})
    assert first.startswith("m ") and step.identity(args, {}) == first
    (tmp_path / "manifest.json").write_text('{"sha256": "1"}')
    assert step.identity(args, {}) != first
