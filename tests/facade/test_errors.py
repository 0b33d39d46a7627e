"""The error table of Roboflow's contract row by row, and that no error says more than it should in any dialect."""

from __future__ import annotations

import base64
import io
import logging
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tritonvision import errors

DETECTOR, CLASSIFIER = "yolov8n-640", "resnet18"
JSON = {"content-type": "application/json"}
UNREADABLE = "Could not load input image. Cause: "


def value(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def detect(house, image, **body):
    return house.client.post("/infer/object_detection", json={"model_id": DETECTOR, "image": image, **body})


def png_that_declares(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IEND", b"")


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


def pickled(thing: object) -> dict:
    return {"type": "numpy", "value": base64.b64encode(pickle.dumps(thing)).decode()}


SHAPE = b"{'descr': '|u1', 'fortran_order': False, 'shape': (99999, 99999, 3), }"
HUGE = b"\x93NUMPY\x01\x00\x46\x00" + SHAPE.ljust(70)
BAD_IMAGES = {
    "no picture": value(b"no picture"),
    "empty": value(b""),
    "null": {"type": "base64", "value": None},
    "a number": {"type": "base64", "value": 5},
    "malformed base64": {"type": "base64", "value": "%%% not base64 %%%"},
    "an unknown type": {"type": "telepathy", "value": "x"},
    "a file of the server": {"type": "file", "value": "/etc/passwd"},
    "an internal type": {"type": "numpy_object", "value": "x"},
    "plain http": {"type": "url", "value": "http://example.com/x.jpg"},
    "this machine": {"type": "url", "value": "https://127.0.0.1/x.jpg"},
    "a private address": {"type": "url", "value": "https://10.0.0.1/x.jpg"},
    "a pickle with a call": pickled(Evil()),
    "a pickle of a list": pickled([1]),
    "floats": pickled(np.zeros((2, 2, 3))),
    "a huge shape": {"type": "numpy", "value": base64.b64encode(HUGE).decode()},
    "no pixels": value(png_that_declares(0, 0)),
    "an array as base64": value(b"\x93NUMPY\x01\x00"),
    "no pictures": [],
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_picture_is_a_400_that_begins_as_the_contract_says(house, name):
    answer = detect(house, BAD_IMAGES[name])
    assert answer.status_code == 400 and answer.json()["message"].startswith(UNREADABLE), answer.text
    assert house.engine.asked == []


def test_a_cut_jpeg_is_a_400(house, picture):
    assert detect(house, value(picture[:-20])).status_code == 400


def test_one_bad_picture_refuses_its_batch(house, picture):
    assert detect(house, [value(picture), value(b"x")]).status_code == 400


@pytest.mark.parametrize("option, kind", [("url_input", "url"), ("numpy_input", "numpy")])
def test_a_disabled_kind_of_picture_is_a_400(house_with, option, kind):
    answer = detect(house_with(**{option: False}), {"type": kind, "value": "https://example.com/x.jpg"})
    assert answer.status_code == 400 and "turned off" in answer.json()["message"]
    assert answer.json()["message"].startswith(UNREADABLE)


def test_a_picture_over_the_pixel_limit_is_a_413_without_decoding_it(house):
    answer = detect(house, value(png_that_declares(60_000, 60_000)))
    assert answer.status_code == 413 and "60000 x 60000" in answer.json()["message"]


@pytest.mark.parametrize("body", [
    {"image": {"type": "base64", "value": "x"}}, {"model_id": DETECTOR}, {"model_id": DETECTOR, "image": None},
    {"model_id": DETECTOR, "image": "text"}, {"model_id": DETECTOR, "image": {"type": "base64"}},
    {"model_id": DETECTOR, "image": {"value": "x"}}, {"model_id": 5, "image": {"type": "base64", "value": "x"}},
    {"model_id": DETECTOR, "image": {"type": "base64", "value": "x"}, "confidence": "very"},
    {"model_id": DETECTOR, "image": {"type": "base64", "value": "x"}, "confidence": [0.5]},
    {"model_id": DETECTOR, "image": {"type": "base64", "value": "x"}, "max_detections": 1.5},
    {"model_id": DETECTOR, "image": {"type": "base64", "value": "x"}, "class_filter": "dog"},
    [], "text", 5,
])  # fmt: skip
def test_a_body_that_does_not_fit_its_schema_is_a_422_with_detail(house, body):
    answer = house.client.post("/infer/object_detection", json=body)
    assert answer.status_code == 422
    assert all(problem.keys() == {"type", "loc", "msg"} for problem in answer.json()["detail"])


def test_a_schema_error_repeats_neither_picture_nor_key(house):
    body = {"model_id": [1], "image": value(b"secret picture"), "api_key": "secret-key", "confidence": "secret-word"}
    answer = house.client.post("/infer/object_detection", json=body)
    assert answer.status_code == 422
    assert "secret" not in answer.text and value(b"secret picture")["value"] not in answer.text


@pytest.mark.parametrize("body", [
    {"confidence": 1.5}, {"confidence": -0.1}, {"iou_threshold": 2}, {"max_detections": 0}, {"max_candidates": -1},
    {"max_detections": 10**9},
])  # fmt: skip
def test_a_setting_outside_its_range_is_a_400(house, picture, body):
    answer = detect(house, value(picture), **body)
    assert answer.status_code == 400 and next(iter(body)) in answer.json()["message"]


def test_a_threshold_of_a_classifier_is_checked_too(house, picture):
    body = {"model_id": CLASSIFIER, "image": value(picture), "confidence": 1.5}
    assert house.client.post("/infer/classification", json=body).status_code == 400


# ---- the legacy route ------------------------------------------------------------------------------------------------


def test_the_legacy_body_must_be_there_and_readable(house, picture):
    def legacy(content: bytes, kind: str | None = "application/json", **query):
        headers = {"content-type": kind} if kind else {}
        return house.client.post("/coco/3", content=content, headers=headers, params=query)

    text = base64.b64encode(picture)
    for answer in (
        legacy(text, None), legacy(b""), legacy(picture), legacy(b"{}"), legacy(text, image_type="numpy"),
        legacy(text, image_type="file"), legacy(b"", image="https://127.0.0.1/x.jpg"), house.client.get("/coco/3"),
        house.client.post("/coco/3", files={"photo": ("a.jpg", picture)}),
        house.client.post("/coco/3", data={"file": "text"}, files={"photo": ("a.jpg", picture)}),
        legacy(b"no form", "multipart/form-data; boundary=x"), legacy(b"no form", "multipart/form-data"),
    ):  # fmt: skip
        assert answer.status_code == 400 and isinstance(answer.json()["message"], str), answer.text


@pytest.mark.parametrize("query", [{"confidence": "150"}, {"confidence": "-0.5"}, {"overlap": "300"}])
def test_legacy_thresholds_outside_their_range_are_a_400(house, picture, query):
    answer = house.client.post("/coco/3", params=query, content=base64.b64encode(picture), headers=JSON)
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("query", [{"confidence": "very"}, {"confidence": "nan"}, {"format": "gif"}, {"overlap": "x"}])
def test_legacy_parameters_of_the_wrong_type_are_a_422(house, picture, query):
    answer = house.client.post(
        "/coco/3", params={**query, "api_key": "secret"}, content=base64.b64encode(picture), headers=JSON
    )  # fmt: skip
    assert answer.status_code == 422 and answer.json()["detail"] and "secret" not in answer.text


# ---- what the engine says --------------------------------------------------------------------------------------------


TREE = [
    (errors.InvalidPicture(), 400), (errors.InvalidParameter(), 400), (errors.Unauthorized(), 401),
    (errors.UnknownModel(), 404), (errors.PictureTooLarge(), 413), (errors.NotSupported(), 501),
    (errors.ServerUnavailable(), 502), (errors.ModelLoading(retry_after=4.2), 503), (errors.ModelLoading(), 503),
    (errors.Overloaded(retry_after=1), 503), (errors.DeadlineExceeded(), 504),
    (errors.TritonVisionError("It failed."), 500),
]  # fmt: skip


@pytest.mark.parametrize("error, status", TREE, ids=lambda value: getattr(value, "code", value))
def test_every_error_of_the_tree_has_its_status_in_both_dialects(house, picture, error, status, monkeypatch):
    monkeypatch.setattr("tritonvision.facade.dialects.common.waiting._WAIT_SECONDS", 0.0)
    house.engine.failure = error
    roboflow = detect(house, value(picture))
    hugging = house.client.post(f"/models/{DETECTOR}", content=picture, headers={"x-wait-for-model": "1"})
    assert (roboflow.status_code, hugging.status_code) == (status, status)
    assert error.message in roboflow.json()["message"] and error.message in hugging.json()["error"]
    assert isinstance(hugging.json()["error"], str)
    for answer in (roboflow, hugging):
        if status == 503:
            assert int(answer.headers["retry-after"]) >= max(1, error.retry_after or 0)
        assert answer.headers["x-request-id"]
    assert ("estimated_time" in hugging.json()) == isinstance(error, errors.ModelLoading)


@pytest.mark.parametrize("path, key", [("/infer/object_detection", "message"), (f"/models/{DETECTOR}", "error")])
def test_an_unexpected_failure_reveals_nothing_and_is_logged_with_its_id(house, picture, caplog, path, key):
    house.engine.failure = RuntimeError("a secret of the inside, /home/me/file.py")
    with caplog.at_level(logging.ERROR):
        answer = house.client.post(
            path, json={"model_id": DETECTOR, "image": value(picture), "inputs": value(picture)["value"]},
            headers={"x-wait-for-model": "1", "x-request-id": "my-request"}, params={"api_key": "a-key-of-mine"},
        )  # fmt: skip
    assert answer.status_code == 500 and answer.json() == {key: "Internal error."}
    assert answer.headers["x-request-id"] == "my-request"
    (record,) = [r for r in caplog.records if r.name == "tritonvision.facade"]
    assert "my-request" in record.getMessage() and record.exc_info and "a-key-of-mine" not in caplog.text
    house.engine.failure = None
    assert detect(house, value(picture)).status_code == 200


def test_a_wrong_method_is_a_405_and_an_unknown_route_a_404(house):
    for method, path, status in (
        ("GET", "/infer/object_detection", 405), ("POST", "/info", 405), ("DELETE", "/coco/3", 405),
        ("GET", "/nothing", 404), ("POST", "/a/b/c", 404), ("PUT", "/model/add", 405),
    ):  # fmt: skip
        answer = house.client.request(method, path)
        assert answer.status_code == status and isinstance(answer.json()["message"], str)


def test_a_picture_that_cannot_be_decoded_for_its_drawing_is_a_400(house):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    broken = bytearray(stream.getvalue())
    broken[broken.index(b"IDAT") + 4] ^= 0xFF  # the header is fine, what follows is not
    answer = detect(house, value(bytes(broken)), visualize_predictions=True)
    assert answer.status_code == 400 and answer.json()["message"].startswith(UNREADABLE)


def test_of_several_pictures_the_one_that_cannot_be_read_is_named(house):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "PNG")
    answer = detect(house, [value(stream.getvalue()), value(b"no picture"), value(stream.getvalue())])
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(UNREADABLE + "Picture 2 of 3: The bytes are not a picture.")
    assert detect(house, [value(b"no picture")]).json()["message"].startswith(UNREADABLE + "The bytes")
