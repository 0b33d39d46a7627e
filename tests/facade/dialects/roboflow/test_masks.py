"""Instance segmentation in Roboflow's dialect: polygons by default, run lengths on request, no masks for boxes only."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

SEGMENTER = "yolov8n-seg-640"
SIZE = (40, 30)  # width, height of the picture
ROUTES = ("/infer/instance_segmentation", "/infer/segmentation")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def body(picture: bytes, **more) -> dict:
    return {"model_id": SEGMENTER, "image": {"type": "base64", "value": b64(picture)}, **more}


@pytest.mark.parametrize("route", ROUTES)
def test_the_default_answer_holds_outlines_in_picture_pixels(house, picture, route):
    answer = house.client.post(route, json=body(picture)).json()
    assert answer["image"] == {"width": SIZE[0], "height": SIZE[1]}
    first, second = answer["predictions"]
    assert first["points"] == [{"x": 2.0, "y": 3.0}, {"x": 2.0, "y": 22.0}, {"x": 21.0, "y": 22.0}]
    assert (first["x"], first["y"], first["class"], first["mask_format"]) == (11.5, 12.5, "dog", "polygon")
    assert second["points"] == []  # an empty mask has an empty outline
    assert "rle" not in first
    assert house.engine.asked[-1][2]["mask_format"] == "polygon"


def test_run_lengths_are_those_of_the_whole_picture(house, picture):
    answer = house.client.post(ROUTES[0], json=body(picture, response_mask_format="rle")).json()
    first, second = answer["predictions"]
    assert "points" not in first and first["mask_format"] == "rle"
    assert first["rle"]["size"] == [SIZE[1], SIZE[0]]
    dense = coco.decode(first["rle"])
    assert dense.sum() == 210 and dense[3:23, 2:22].sum() == 210
    assert coco.area(second["rle"]) == 0
    assert house.engine.asked[-1][2]["mask_format"] == "rle"


def test_an_array_of_pictures_gets_an_array_of_answers(house, picture):
    ask = body(picture)
    answers = house.client.post(ROUTES[0], json=ask | {"image": [ask["image"]] * 2}).json()
    assert [len(answer["predictions"]) for answer in answers] == [2, 2]


@pytest.mark.parametrize("mode", ["accurate", "fast", "tradeoff"])
def test_no_mode_of_decoding_changes_the_answer(house, picture, mode):
    hints = {"mask_decode_mode": mode, "tradeoff_factor": 0.5, "allow_reduced_mask_resolution": True}
    plain, hinted = (house.client.post(ROUTES[0], json=body(picture, **more)).json() for more in ({}, hints))
    assert [p["points"] for p in plain["predictions"]] == [p["points"] for p in hinted["predictions"]]
    assert plain["image"] == hinted["image"]


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"mask_decode_mode": "quick"}, "mask_decode_mode"),
        ({"tradeoff_factor": 1.01}, "tradeoff_factor"),
        ({"tradeoff_factor": -0.5}, "tradeoff_factor"),
        ({"response_mask_format": "png"}, "response_mask_format"),
        ({"confidence": 7}, "confidence"),
    ],
)
def test_an_invalid_setting_is_refused_by_name(house, picture, more, names):
    answer = house.client.post(ROUTES[0], json=body(picture, **more))
    assert answer.status_code == 400
    assert names in answer.json()["message"]


@pytest.mark.parametrize("more", [{"mask_decode_mode": 5}, {"tradeoff_factor": "much"}])
def test_a_setting_of_another_type_breaks_the_schema(house, picture, more):
    assert house.client.post(ROUTES[0], json=body(picture, **more)).status_code == 422


def test_a_model_without_masks_is_refused(house, picture):
    answer = house.client.post(ROUTES[0], json=body(picture, model_id="yolov8n-640"))
    assert answer.status_code == 400 and "object-detection" in answer.json()["message"]


def test_a_segmenter_asked_for_boxes_decodes_no_mask(house, picture):
    answer = house.client.post("/infer/object_detection", json=body(picture)).json()
    assert [set(p) & {"points", "rle", "mask_format"} for p in answer["predictions"]] == [set(), set()]
    assert house.engine.asked[-1][2]["mask_format"] == "none"


def test_the_picture_comes_back_with_the_masks_drawn_in(house):
    plain = io.BytesIO()
    Image.new("RGB", (160, 120), (128, 128, 128)).save(plain, "PNG")
    with_masks, boxes = (
        _drawn(house.client.post(route, json=body(plain.getvalue(), visualize_predictions=True)).json())
        for route in (ROUTES[0], "/infer/object_detection")
    )
    difference = np.abs(with_masks - boxes)
    assert difference[4:8, 2:8].max() > 25  # in the triangle, as far as the name of its class leaves it free
    assert difference[40:].max() < 8  # where nothing is


def _drawn(answer: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).convert("RGB")).astype(int)


def test_the_legacy_route_answers_for_segmenters(house, picture):
    def ask(**query):
        url = "/coco-dataset-vdnr1/2"
        return house.client.post(url, params=query, content=b64(picture), headers={"content-type": "text/plain"})

    assert len(ask().json()["predictions"][0]["points"]) == 3
    assert ask(response_mask_format="rle").json()["predictions"][0]["rle"]["size"] == [SIZE[1], SIZE[0]]
    assert ask(mask_decode_mode="quick").status_code == 400
