"""``/doctr/ocr``, ``/easy_ocr/ocr`` and ``/ocr/trocr``: pages and lines of text."""

from __future__ import annotations

import base64

import pytest

from tritonvision import errors

PAGES, LINES, REGIONS = "/doctr/ocr", "/ocr/trocr", "/easy_ocr/ocr"
TEXT = "two words\n\nalone"


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def ask(house, route: str, image: object, **more):
    answer = house.client.post(route, json={"image": image, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(house, route: str, **body) -> tuple[int, str]:
    answer = house.client.post(route, json=body)
    return answer.status_code, answer.json().get("message", "")


def test_a_page_is_its_text(house, picture):
    answer = ask(house, PAGES, b64(picture), id="mine")
    assert answer.pop("time") > 0
    assert answer == {"inference_id": "mine", "result": TEXT, "parent_id": None}
    assert house.engine.asked == [("doctr-db_resnet50", [picture], {"auto_orient": True}, True)]


def test_a_version_may_be_a_whole_name(house, picture):
    for version in ("default", "doctr-db_resnet50", "doctr-dbnet-rn50/crnn-vgg16", "doctr/default"):
        assert ask(house, PAGES, b64(picture), doctr_version_id=version)["result"] == TEXT
    for version in ("trocr-base-printed", "microsoft/trocr-base-printed"):
        assert ask(house, LINES, b64(picture), trocr_version_id=version)["result"] == "a line"
    status, told = refusal(house, PAGES, image=b64(picture), doctr_version_id="doctr-db_mobilenet_v3")
    assert status == 404 and "'doctr-db_mobilenet_v3' is not published here" in told
    status, told = refusal(house, PAGES, image=b64(picture), doctr_version_id="nobody")
    assert status == 404 and "No model is called 'doctr/nobody'." in told


def test_an_array_of_pages_gives_an_array(house, picture):
    assert [page["result"] for page in ask(house, PAGES, [b64(picture)])] == [TEXT]
    assert len(ask(house, PAGES, [b64(picture)] * 3, generate_bounding_boxes=True)) == 3


def test_a_page_with_its_regions(house, picture):
    answer = ask(house, PAGES, b64(picture), generate_bounding_boxes=True)
    assert answer["image"] == {"width": 40, "height": 30} and answer["result"] == TEXT
    regions = answer["predictions"]
    assert [(r["class"], r["class_id"]) for r in regions] == [
        ("block", 0), ("line", 1), ("word", 2), ("word", 2), ("word", 2),
    ]  # fmt: skip
    assert [r["text"] for r in regions] == ["two words", "two words", "two", "words", "alone"]
    assert {r["confidence"] for r in regions} == {1.0}
    assert {name: regions[3][name] for name in ("x", "y", "width", "height")} == {
        "x": 29.75, "y": 4.0, "width": 19.5, "height": 6.0,
    }  # fmt: skip
    ids = [r["detection_id"] for r in regions]
    assert len(set(ids)) == 5
    assert [r.get("parent_id") for r in regions] == [None, ids[0], ids[1], ids[1], None]


def test_regions_have_their_text_as_their_class(house, picture):
    answer = ask(house, REGIONS, b64(picture), id="mine")
    assert answer.pop("time") > 0
    assert (answer["inference_id"], answer["result"], answer["parent_id"]) == ("mine", "two words turned", None)
    assert answer["image"] == {"width": 40, "height": 30}
    level, turned = answer["predictions"]
    assert level.pop("detection_id") != turned["detection_id"]
    assert level == {
        "x": 15.5, "y": 5.0, "width": 29.0, "height": 8.0, "confidence": 0.75, "class": "two words", "class_id": 0,
        "text": "two words",
        "points": [{"x": 1, "y": 1}, {"x": 30, "y": 1}, {"x": 30, "y": 9}, {"x": 1, "y": 9}],
    }  # fmt: skip
    assert turned["class"] == "turned" and turned["points"][0] == {"x": 2, "y": 15}
    assert house.engine.asked == [("easyocr-en", [picture], {"auto_orient": True}, True)]


def test_a_model_of_words_answers_the_route_of_regions_with_its_words(house, picture):
    answer = ask(house, REGIONS, [b64(picture)], model_id="doctr-db_resnet50")[0]
    assert answer["result"] == "two words alone"
    assert [found["class"] for found in answer["predictions"]] == ["two", "words", "alone"]


def test_regions_on_the_route_of_pages_keep_their_kind_and_their_corners(house, picture):
    answer = ask(house, PAGES, b64(picture), model_id="easyocr-en", generate_bounding_boxes=True)
    assert answer["result"] == "two words\nturned"
    assert [(found["class"], found["text"]) for found in answer["predictions"]] == [
        ("line", "two words"), ("line", "turned"),
    ]  # fmt: skip
    assert len(answer["predictions"][1]["points"]) == 4


def test_languages_of_regions_are_those_of_the_pack(house, picture):
    ask(house, REGIONS, b64(picture), language_codes=["en"], quantize=True)
    status, told = refusal(house, REGIONS, image=b64(picture), language_codes=["en", "fr"])
    assert status == 400 and "'easyocr-en' reads English, not 'fr'." in told
    status, told = refusal(house, REGIONS, image=b64(picture), easy_ocr_version_id="latin_g2")
    assert status == 404 and "'easyocr-multi' is not published here" in told


def test_a_line_is_its_text(house, picture):
    answer = ask(house, LINES, b64(picture), generate_bounding_boxes=True)
    assert set(answer) == {"inference_id", "result", "time", "parent_id"}
    assert answer["result"] == "a line" and answer["parent_id"] is None
    settings = {"auto_orient": True, "max_new_tokens": None, "num_beams": None}
    assert house.engine.asked == [("trocr-base-printed", [picture], settings, True)]


def test_settings_of_a_line_reach_the_model(house, picture):
    ask(house, LINES, b64(picture), max_new_tokens=9, num_beams=4, disable_preproc_auto_orient=True)
    assert house.engine.asked[0][2] == {"auto_orient": False, "max_new_tokens": 9, "num_beams": 4}
    for more in ({"max_new_tokens": 0}, {"num_beams": 1000}):
        assert refusal(house, LINES, image=b64(picture), **more)[0] == 400


def test_more_than_one_line_is_refused(house, picture):
    assert refusal(house, LINES, image=[b64(picture)])[0] == 400
    assert house.engine.asked == []


@pytest.mark.parametrize("route, field, good", [
    (PAGES, "doctr_version_id", "default"), (LINES, "trocr_version_id", "trocr-base-printed"),
    (REGIONS, "easy_ocr_version_id", "english_g2"),
])  # fmt: skip
def test_the_version_names_the_model_unless_model_id_does(house, picture, route, field, good):
    mine = {PAGES: "doctr-db_resnet50", LINES: "trocr-base-printed", REGIONS: "easyocr-en"}[route]
    ask(house, route, b64(picture), **{field: good})
    ask(house, route, b64(picture), **{field: "ignored", "model_id": mine})
    for version, status in (("nobody", 404), ("../etc", 400), ("", 400), ("a b", 400), ("x" * 3000, 400)):
        assert refusal(house, route, image=b64(picture), **{field: version})[0] == status
    status, message = refusal(house, route, image=b64(picture), model_id="resnet18")
    assert status == 400 and "classification" in message
    status, message = refusal(house, LINES, image=b64(picture), trocr_version_id="trocr-large-printed")
    assert status == 404 and "tritonvision export trocr-large-printed" in message


@pytest.mark.parametrize("route", [PAGES, LINES, REGIONS])
@pytest.mark.parametrize("image", [
    b64(b"no picture"), b64(b""), {"type": "file", "value": "/etc/passwd"}, {"type": "url", "value": "file:///etc/passwd"},
    [],
])  # fmt: skip
def test_what_is_no_picture_is_refused(house, route, image):
    assert refusal(house, route, image=image)[0] == 400
    assert house.engine.asked == []


@pytest.mark.parametrize("route", [PAGES, LINES])
def test_bodies_that_do_not_fit(house, picture, route):
    for body in ({}, {"image": "x"}, {"image": None}, {"image": b64(picture), "generate_bounding_boxes": "perhaps"}):
        answer = house.client.post(route, json=body)
        if route == PAGES or "generate_bounding_boxes" not in body:
            assert answer.status_code == 422 and answer.json()["detail"]
    assert house.client.post(route, content=b"{").status_code == 422


@pytest.mark.parametrize("route", [PAGES, LINES, REGIONS])
def test_errors_of_the_model_reach_the_caller(house, picture, route):
    house.engine.failure = errors.DeadlineExceeded("It took too long.")
    assert refusal(house, route, image=b64(picture)) == (504, "It took too long.")
