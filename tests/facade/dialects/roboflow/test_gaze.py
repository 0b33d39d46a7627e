"""``/gaze/gaze_detection`` follows the contract of the releases that have this route."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tritonvision.publication import MANIFEST, Manifest
from tritonvision.results import Detections, KeyPoints, L2CSGazeDetection

ROUTE = "/gaze/gaze_detection"


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def found(count: int, points: int = 6) -> tuple:
    """``count`` faces of 10 x 20 pixels, side by side."""
    left = np.arange(count, dtype=np.float32) * 10
    boxes = np.stack([left, np.full(count, 5), left + 10, np.full(count, 25)], axis=1).astype(np.float32)
    metadata = {"height": 30, "width": 40, "seconds": [0.25, 0.5]}
    detections = Detections(boxes, np.zeros(count, np.int32), np.full(count, 0.75, np.float32), metadata)
    xy = np.repeat(boxes[:, None, :2] + 1, points, axis=1)
    angles = L2CSGazeDetection(np.linspace(0.5, -0.5, count, dtype=np.float32), np.full(count, -0.25, np.float32))
    return KeyPoints(xy, detections.class_id, np.ones((count, points), np.float32), metadata), detections, angles


@pytest.fixture
def gaze(house, monkeypatch):
    """The facade with a published gaze model, which finds ``gaze.faces`` in every picture."""
    manifest = Manifest(
        id="l2cs-gaze", family="L2CS", task="gaze-detection", head="gaze", weights="random", source="seed 0",
        sha256="0", license="MIT", precision="fp32", labels=("face",), input_size=(448, 448), steps=(),
    )  # fmt: skip
    folder = house.engine.repository.root / manifest.triton_name
    folder.mkdir()
    (folder / MANIFEST).write_text(manifest.to_json())
    result = house.engine._result
    house.faces = found(1)

    def answer(manifest, picture, settings):
        return house.faces if manifest.task == "gaze-detection" else result(manifest, picture, settings)

    monkeypatch.setattr(house.engine, "_result", answer)
    return house


def ask(house, picture: bytes, **body) -> list:
    answer = house.client.post(ROUTE, json={"image": b64(picture), **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_one_picture_gives_an_array_of_one(gaze, picture):
    (answer,) = ask(gaze, picture)
    assert set(answer) == {"predictions", "time", "time_face_det", "time_gaze_det"}
    assert answer["time"] > 0 and (answer["time_face_det"], answer["time_gaze_det"]) == (0.25, 0.5)
    (prediction,) = answer["predictions"]
    assert (prediction["yaw"], prediction["pitch"]) == (0.5, -0.25)
    landmarks = prediction["face"].pop("landmarks")
    assert landmarks == [{"x": 1.0, "y": 6.0}] * 6
    assert prediction["face"] == {
        "x": 5.0, "y": 15.0, "width": 10.0, "height": 20.0, "confidence": 0.75, "class": "face", "class_id": 0,
    }  # fmt: skip


def test_several_pictures_give_an_answer_each(gaze, picture):
    gaze.faces = found(3)
    answers = ask(gaze, picture, image=[b64(picture), b64(picture)])
    assert [len(answer["predictions"]) for answer in answers] == [3, 3]
    assert [p["yaw"] for p in answers[0]["predictions"]] == [0.5, 0.0, -0.5]


def test_no_face_gives_no_predictions(gaze, picture):
    gaze.faces = found(0)
    assert ask(gaze, picture)[0]["predictions"] == []


def test_a_picture_that_is_one_face_has_no_landmarks(gaze, picture):
    gaze.faces = found(1, points=0)
    (answer,) = ask(gaze, picture, do_run_face_detection=False)
    assert answer["predictions"][0]["face"]["landmarks"] == []
    assert gaze.engine.asked[-1][2]["detect_faces"] is False


def test_the_version_names_the_model_and_the_defaults_are_sent(gaze, picture):
    ask(gaze, picture)
    ask(gaze, picture, gaze_version_id="ignored", model_id="l2cs-gaze", api_key="k")
    assert [model for model, *_ in gaze.engine.asked] == ["l2cs-gaze"] * 2
    assert gaze.engine.asked[0][2] == {"auto_orient": True, "confidence": 0.5, "detect_faces": True}


def test_every_setting_reaches_the_model(gaze, picture):
    ask(gaze, picture, confidence=0.8, disable_preproc_auto_orient=True, do_run_face_detection=True)
    assert gaze.engine.asked[0][2] == {"auto_orient": False, "confidence": 0.8, "detect_faces": True}


def test_the_answer_can_come_drawn(gaze, picture):
    (answer,) = ask(gaze, picture, visualize_predictions=True)
    assert Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).size == (40, 30)


def test_unmeasured_times_are_null(gaze, picture):
    for result in gaze.faces[:2]:
        result.image_metadata = {"height": 30, "width": 40}
    (answer,) = ask(gaze, picture)
    assert answer["time_face_det"] is None and answer["time_gaze_det"] is None


@pytest.mark.parametrize(
    "version, status", [("nobody", 404), ("../etc", 400), ("", 400), ("a b", 400), ("x" * 3000, 400)]
)  # fmt: skip
def test_an_unknown_version_is_not_found_and_an_invalid_one_refused(gaze, picture, version, status):
    answer = gaze.client.post(ROUTE, json={"image": b64(picture), "gaze_version_id": version})
    assert answer.status_code == status and set(answer.json()) == {"message"}


def test_what_is_no_picture_and_a_threshold_out_of_range_are_refused(gaze, picture):
    assert gaze.client.post(ROUTE, json={"image": b64(b"no picture")}).status_code == 400
    assert gaze.client.post(ROUTE, json={"image": b64(picture), "confidence": 2}).status_code == 400
    assert gaze.client.post(ROUTE, json={"image": []}).status_code == 400
    for body in ({}, {"image": "x"}, {"image": b64(picture), "do_run_face_detection": "perhaps"}):
        assert gaze.client.post(ROUTE, json=body).status_code == 422
