"""The task routes and the legacy route of Roboflow's dialect follow their contract."""

from __future__ import annotations

import base64
import dataclasses
import io
import pickle
import uuid

import numpy as np
import pytest
from PIL import Image

from tritonvision.publication import MANIFEST

DETECTOR, FACE, CLASSIFIER, MANY_LABELS = "yolov8n-640", "mediapipe-face-detection", "resnet18", "mine/weather/1"
JSON = {"content-type": "application/json"}


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def post(house, path: str, **body):
    return house.client.post(f"/infer/{path}", json=body)


def detect(house, picture: bytes, **body) -> dict:
    answer = post(house, "object_detection", **{"model_id": "coco/3", "image": b64(picture), **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_boxes_are_centre_and_size_in_pixels(house, picture):
    answer = detect(house, picture)
    assert answer["image"] == {"width": 40, "height": 30}
    assert uuid.UUID(answer["inference_id"]) and answer["time"] > 0
    first, second = answer["predictions"]
    assert {"x": 11.5, "y": 12.5, "width": 20.5, "height": 20.0, "class": "dog", "class_id": 1}.items() <= first.items()
    assert first["confidence"] == pytest.approx(0.9) and uuid.UUID(first["detection_id"])
    assert all(isinstance(first[name], float) for name in ("x", "y", "width", "height"))
    assert second["class"] == "fox" and None not in first.values() and "visualization" not in answer


def test_every_name_of_a_model_reaches_it(house, picture):
    for name in (DETECTOR, "coco/3", "anybody/coco/3"):
        assert len(detect(house, picture, model_id=name)["predictions"]) == 2
    assert {model for model, *_ in house.engine.asked} == {DETECTOR}


def test_the_defaults_of_the_contract_are_sent(house, picture):
    detect(house, picture)
    assert house.engine.asked[0][2] == {
        "auto_orient": True, "confidence": 0.4, "iou_threshold": 0.3, "max_detections": 300, "max_candidates": 3000,
        "classes": None, "class_agnostic_nms": False,
    }  # fmt: skip


def test_every_setting_reaches_the_model(house, picture):
    detect(
        house, picture, confidence=0.7, iou_threshold=0.6, max_detections=7, max_candidates=70,
        class_agnostic_nms=True, class_filter=["fox", "unicorn"], disable_preproc_auto_orient=True,
    )  # fmt: skip
    assert house.engine.asked[0][2] == {
        "auto_orient": False, "confidence": 0.7, "iou_threshold": 0.6, "max_detections": 7, "max_candidates": 70,
        "classes": [2], "class_agnostic_nms": True,
    }  # fmt: skip


@pytest.mark.parametrize("names, classes", [(None, None), ([], None), (["unicorn"], []), (["cat", "fox"], [0, 2])])
def test_class_names_become_ids(house, picture, names, classes):
    detect(house, picture, class_filter=names)
    assert house.engine.asked[0][2]["classes"] == classes


@pytest.mark.parametrize("word", ["best", "default"])
def test_best_and_default_mean_the_models_own_threshold(house, picture, word):
    detect(house, picture, confidence=word)
    assert house.engine.asked[0][2]["confidence"] == 0.4


def test_null_and_unknown_fields_are_absent(house, picture):
    detect(house, picture, confidence=None, api_key=None, id=None, source=None, some_new_field={"a": [1]})
    assert house.engine.asked[0][2]["confidence"] == 0.4


def test_the_callers_id_comes_back(house, picture):
    assert detect(house, picture, id="my-1")["inference_id"] == "my-1"


def test_an_array_gives_an_array_also_of_one(house, picture):
    other = Image.new("RGB", (8, 6))
    stream = io.BytesIO()
    other.save(stream, "PNG")
    both = detect(house, picture, image=[b64(picture), b64(stream.getvalue())])
    assert [answer["image"]["width"] for answer in both] == [40, 8]
    assert len({answer["inference_id"] for answer in both}) == 2
    assert isinstance(detect(house, picture, image=[b64(picture)]), list)


def test_key_points_come_with_their_names(house, picture):
    answer = post(house, "keypoints_detection", model_id=FACE, image=b64(picture)).json()
    points = answer["predictions"][0]["keypoints"]
    assert [p["class"] for p in points] == ["right-eye", "left-eye"]
    assert points[0] == {"x": 2.25, "y": 3.5, "confidence": 1.0, "class_id": 0, "class": "right-eye"}


def test_key_points_under_the_threshold_are_left_out(house, picture):
    answer = post(
        house, "keypoints_detection", model_id=FACE, image=b64(picture), keypoint_confidence=0.5
    ).json()  # fmt: skip
    assert [len(found["keypoints"]) for found in answer["predictions"]] == [1, 1]


def test_a_key_point_model_gives_boxes_alone_on_the_detection_route(house, picture):
    answer = detect(house, picture, model_id=FACE)
    assert len(answer["predictions"]) == 2 and "keypoints" not in answer["predictions"][0]


def classify(house, picture: bytes, **body) -> dict:
    answer = post(house, "classification", **{"model_id": CLASSIFIER, "image": b64(picture), **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_classes_are_sorted_rounded_and_thresholded(house, picture):
    answer = classify(house, picture)
    assert answer["predictions"] == [{"class": "dog", "class_id": 1, "confidence": 0.625}]
    assert answer["top"] == "dog" and answer["confidence"] == 0.625 and answer["image"] == {"width": 40, "height": 30}
    assert house.engine.asked[0][2]["confidence"] == 0.0


def test_confidence_zero_gives_every_class(house, picture):
    assert [p["class"] for p in classify(house, picture, confidence=0)["predictions"]] == ["dog", "cat", "fox"]


def test_no_class_over_the_threshold_is_an_empty_answer(house, picture):
    answer = classify(house, picture, confidence=0.9)
    assert (answer["predictions"], answer["top"], answer["confidence"]) == ([], "", 0.0)


def test_many_labels_keep_every_class(house, picture):
    answer = classify(house, picture, model_id=MANY_LABELS)
    assert answer["predictions"] == {
        "sunny": {"confidence": 0.75, "class_id": 0}, "windy": {"confidence": 0.125, "class_id": 1},
    }  # fmt: skip
    assert answer["predicted_classes"] == ["sunny"]
    assert classify(house, picture, model_id=MANY_LABELS, confidence=0.1)["predicted_classes"] == ["sunny", "windy"]


@pytest.mark.parametrize("path, model", [
    ("object_detection", DETECTOR), ("keypoints_detection", FACE), ("classification", CLASSIFIER),
])  # fmt: skip
def test_a_drawn_answer_is_a_jpeg_at_full_size(house, picture, path, model):
    answer = post(house, path, model_id=model, image=[b64(picture)] * 2, visualize_predictions=True).json()
    for one in answer:
        drawn = Image.open(io.BytesIO(base64.b64decode(one["visualization"])))
        assert drawn.format == "JPEG" and drawn.size == (40, 30)


def test_an_array_is_bgr_and_reaches_the_model_as_rgb(house):
    array = np.zeros((6, 8, 3), np.uint8)
    array[..., 0] = 200  # blue
    image = {"type": "numpy", "value": base64.b64encode(pickle.dumps(array)).decode()}
    assert detect(house, b"", image=image)["image"] == {"width": 8, "height": 6}
    sent = np.load(io.BytesIO(house.engine.asked[0][1][0]))
    assert (sent == [0, 0, 200]).all()


def test_the_type_of_a_picture_is_not_case_sensitive(house, picture):
    detect(house, picture, image={"type": "BASE64", "value": b64(picture)["value"]})


def test_base64_with_line_breaks_and_without_padding_is_read(house, picture):
    text = b64(picture)["value"]
    lines = "\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    for value in (f"data:image/jpeg;base64,{text}", text.rstrip("="), lines):
        detect(house, picture, image={"type": "base64", "value": value})
    assert all(pictures == [picture] for _, pictures, _, _ in house.engine.asked)


# ---- the legacy route ------------------------------------------------------------------------------------------------


def legacy(house, content: bytes | str, path: str = "/coco/3", headers=JSON, **query):
    return house.client.post(path, params=query, content=content, headers=headers)


def test_base64_in_the_body_whatever_the_content_type_says(house, picture):
    text = b64(picture)["value"]
    for kind in ("application/json", "application/x-www-form-urlencoded", "text/plain"):
        answer = legacy(house, text, headers={"content-type": kind}, api_key="any")
        assert answer.status_code == 200 and len(answer.json()["predictions"]) == 2


def test_a_form_part_called_file(house, picture):
    answer = house.client.post("/coco/3", files={"file": ("a.jpg", picture, "image/jpeg")})
    assert answer.status_code == 200
    assert house.engine.asked[0][1] == [picture]


def test_a_large_form_part_is_read_whole_without_a_disk(house, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    pixels = np.random.default_rng(1).integers(0, 255, (900, 900, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    assert len(stream.getvalue()) > 2**21
    assert house.client.post("/coco/3", files={"file": ("a.png", stream.getvalue())}).status_code == 200
    assert house.engine.asked[0][1] == [stream.getvalue()]


def test_a_pickled_array_in_the_body(house):
    answer = legacy(house, pickle.dumps(np.zeros((6, 8, 3), np.uint8)), image_type="numpy")
    assert answer.status_code == 200 and answer.json()["image"] == {"width": 8, "height": 6}


def test_the_model_decides_what_comes_back(house, picture):
    text = b64(picture)["value"]
    assert "keypoints" in legacy(house, text, "/mediapipe/face-detector").json()["predictions"][0]
    assert legacy(house, text, "/classifiers/1").json()["top"] == "dog"


@pytest.mark.parametrize("given, meant", [
    ("0.7", 0.7), ("50", 0.5), ("1", 0.01), ("0", 0.01), ("100", 1.0), ("best", 0.4), ("default", 0.4), (None, 0.4),
])  # fmt: skip
def test_thresholds_from_one_are_per_cent(house, picture, given, meant):
    query = {} if given is None else {"confidence": given}
    assert legacy(house, b64(picture)["value"], **query).status_code == 200
    assert house.engine.asked[0][2]["confidence"] == pytest.approx(meant)


def test_the_legacy_settings_reach_the_model(house, picture):
    query = {
        "overlap": 60, "max_detections": 7, "disable_preproc_auto_orient": "True", "class_filter": "x",
        "allow_reduced_mask_resolution": "False", "countinference": "false", "labels": "True", "stroke": 3,
    }  # fmt: skip
    assert legacy(house, b64(picture)["value"], **query).status_code == 200
    sent = house.engine.asked[0][2]
    assert (sent["iou_threshold"], sent["max_detections"], sent["auto_orient"]) == (0.6, 7, False)
    assert sent["classes"] is None


def test_a_classifier_is_thresholded_on_the_legacy_route(house, picture):
    answer = legacy(house, b64(picture)["value"], "/classifiers/1", confidence=20).json()
    assert [p["class"] for p in answer["predictions"]] == ["dog", "cat"]


EVERY_TASK = ["/coco/3", "/mediapipe/face-detector", "/classifiers/1", "/weather/1", "/coco-dataset-vdnr1/2"]


@pytest.fixture
def whatever(house):
    """The facade with a model of each task of the legacy route; one is a user's own export."""
    manifest = dataclasses.replace(house.engine.repository.resolve(MANY_LABELS), id="weather/1")
    folder = house.engine.repository.root / manifest.triton_name
    folder.mkdir()
    (folder / MANIFEST).write_text(manifest.to_json())
    return house


@pytest.mark.parametrize("path", EVERY_TASK)
def test_format_image_is_a_jpeg_of_any_task(whatever, picture, path):
    answer = legacy(whatever, b64(picture)["value"], path, format="image")
    assert answer.headers["content-type"] == "image/jpeg"
    drawn = Image.open(io.BytesIO(answer.content))
    assert drawn.format == "JPEG" and drawn.size == (40, 30)


@pytest.mark.parametrize("path", EVERY_TASK)
def test_format_image_and_json_is_both_of_any_task(whatever, picture, path):
    answer = legacy(whatever, b64(picture)["value"], path, format="image_and_json").json()
    plain = legacy(whatever, b64(picture)["value"], path).json()
    assert answer.keys() == plain.keys() | {"visualization"} and len(answer["predictions"]) == len(plain["predictions"])
    assert Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).format == "JPEG"


def test_a_users_export_is_reached_with_its_workspace_and_without(whatever, picture):
    for name in ("weather/1", "anybody/weather/1"):
        answer = post(whatever, "classification", model_id=name, image=b64(picture)).json()
        assert answer["predicted_classes"] == ["sunny"]
    assert legacy(whatever, b64(picture)["value"], "/weather/1").json()["predicted_classes"] == ["sunny"]


def test_drawings_have_the_requested_line_width_and_names(house):
    grey = io.BytesIO()
    Image.new("RGB", (400, 300), (128, 128, 128)).save(grey, "PNG")
    text = b64(grey.getvalue())["value"]

    names = {"labels": "visualization_labels", "stroke": "visualization_stroke_width"}

    def touched(**query) -> int:
        drawn = np.asarray(Image.open(io.BytesIO(legacy(house, text, format="image", **query).content))).astype(int)
        visualized = post(
            house, "object_detection", model_id=DETECTOR, image=b64(grey.getvalue()), visualize_predictions=True,
            **{names[name]: value for name, value in query.items()},
        ).json()["visualization"]  # fmt: skip
        same = np.asarray(Image.open(io.BytesIO(base64.b64decode(visualized)))).astype(int)
        assert np.array_equal(drawn, same), "both routes draw alike"
        return int((np.abs(drawn - 128).max(axis=2) > 40).sum())

    assert touched() == touched(labels=False, stroke=1) < touched(stroke=4) and touched() < touched(labels=True)
    assert touched(stroke=-5) == touched(stroke=1)


def test_drawing_follows_the_orientation_of_the_coordinates(house):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    stream = io.BytesIO()
    Image.new("RGB", (40, 30)).save(stream, "JPEG", exif=exif)
    text = b64(stream.getvalue())["value"]
    sizes = [
        Image.open(io.BytesIO(legacy(house, text, format="image", disable_preproc_auto_orient=off).content)).size
        for off in (False, True)
    ]
    assert sizes == [(30, 40), (40, 30)]


@pytest.mark.parametrize("path", ["/infer/semantic_segmentation"])
def test_a_route_without_a_model_family_is_a_501(house, path):
    answer = house.client.post(path, json={})
    assert answer.status_code == 501 and path in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["/infer/nothing", "/sam3/embed_image", "/workflows/x", "/docs/x", "/api/x"]
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_reserved_first_segments_are_no_projects(house, path, method):
    answer = house.client.request(method, path)
    assert answer.status_code == 404 and answer.json() == {"message": "There is no such route."}


@pytest.mark.parametrize("path", ["/a%2fb/1", "/../1", "/..%2f1", "/a b/1", "/a\x00/1".replace("\x00", "%00"), "/--/1"])
def test_a_path_that_cannot_name_a_model_is_not_found(house, picture, path):
    assert legacy(house, b64(picture)["value"], path).status_code == 404


def test_regions_of_a_picture_get_one_answer_each_in_their_order(house, picture):
    regions = [{"x": 10, "y": 10, "width": 8, "height": 8}, {"x": 30.5, "y": 12, "width": 1, "height": 1}]
    answers = post(house, "classification", model_id=CLASSIFIER, image=b64(picture), regions=regions).json()
    assert [answer["top"] for answer in answers] == ["dog", "dog"]
    assert house.engine.regions == [(10.0, 10.0, 8.0, 8.0), (30.5, 12.0, 1.0, 1.0)]


@pytest.mark.parametrize("regions", [[], [{"x": 1, "y": 1, "width": 2, "height": 2}] * 257])
def test_no_region_and_too_many_are_refused(house, picture, regions):
    body = {"model_id": CLASSIFIER, "image": b64(picture), "regions": regions}
    assert post(house, "classification", **body).status_code == 400


def test_regions_go_with_one_picture(house, picture):
    one = {"x": 1, "y": 1, "width": 2, "height": 2}
    body = {"model_id": CLASSIFIER, "image": [b64(picture)] * 2, "regions": [one]}
    answer = post(house, "classification", **body)
    assert answer.status_code == 400 and "one picture" in answer.json()["message"]
