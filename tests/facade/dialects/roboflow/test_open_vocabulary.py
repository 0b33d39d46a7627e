"""``/grounding_dino/infer``, ``/owlv2/infer`` and ``/yolo_world/infer``: classes given as texts or as examples."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tritonvision import errors

DINO, OWL, WORLD = "/grounding_dino/infer", "/owlv2/infer", "/yolo_world/infer"
PHRASES, EXAMPLES = "grounding-dino-tiny", "owlv2-large-patch14"


def b64(data: bytes) -> dict:
    return {"type": "base64", "value": base64.b64encode(data).decode()}


def example(cls: str, x: float = 10, y: float = 20, w: float = 4, h: float = 6, **more) -> dict:
    return {"x": x, "y": y, "w": w, "h": h, "cls": cls, **more}


def lesson(picture: bytes, *boxes: dict) -> dict:
    return {"image": b64(picture), "boxes": list(boxes)}


def ask(house, route: str, **body):
    answer = house.client.post(route, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(house, route: str, **body) -> tuple[int, str]:
    answer = house.client.post(route, json=body)
    return answer.status_code, answer.json().get("message", "")


# ---- Grounding DINO --------------------------------------------------------------------------------------------------


def test_texts_are_the_classes(house, picture):
    answer = ask(house, DINO, image=b64(picture), text=["a cat", "a dog", "猫"], id="mine")
    assert answer.pop("time") > 0
    first, second = answer.pop("predictions")
    assert answer == {
        "inference_id": "mine", "frame_id": None, "resolved_model": None, "image": {"width": 40, "height": 30},
    }  # fmt: skip
    assert first.pop("detection_id") and (second["class"], second["class_id"]) == ("猫", 2)
    assert first == {
        "x": 11.5, "y": 12.5, "width": 20.5, "height": 20.0, "confidence": pytest.approx(0.9), "class": "a dog",
        "class_id": 1,
    }  # fmt: skip


def test_thresholds_of_the_contract_reach_the_model(house, picture):
    ask(house, DINO, image=b64(picture), text=["cat"])
    ask(
        house, DINO, image=b64(picture), text=["cat"], box_threshold=0.7, text_threshold=0.1, class_agnostic_nms=True,
        max_detections=5, disable_preproc_auto_orient=True, confidence=0.01, class_filter=["dog"],
    )  # fmt: skip
    (model, (sample,), first), (_, _, second) = house.engine.samples
    assert model == PHRASES and sample == {"image": picture}
    examples = {name: None for name in ("boxes", "pictures", "classes", "negatives")}
    examples = {f"example_{name}": value for name, value in examples.items()}
    assert first == {
        "auto_orient": True, "texts": ["cat"], "confidence": 0.5, "text_threshold": 0.5, "iou_threshold": 0.5,
        "class_agnostic_nms": False, "max_detections": 300, **examples,
    }  # fmt: skip
    assert second == {
        "auto_orient": False, "texts": ["cat"], "confidence": 0.7, "text_threshold": 0.1, "iou_threshold": 0.5,
        "class_agnostic_nms": True, "max_detections": 5, **examples,
    }  # fmt: skip


def test_grounding_dino_reads_no_confidence(house, picture):
    """The contract has box_threshold instead, so an invalid confidence is no error."""
    ask(house, DINO, image=b64(picture), text=["cat"], confidence="what the caller calls so")
    ((_, _, settings),) = house.engine.samples
    assert settings["confidence"] == 0.5


def test_an_array_of_pictures_gives_an_array(house, picture):
    answers = ask(house, DINO, image=[b64(picture)] * 2, text=["cat"])
    assert [len(answer["predictions"]) for answer in answers] == [2, 2]
    assert len(ask(house, DINO, image=[b64(picture)], text=["cat"])) == 1


@pytest.mark.parametrize("route, more", [(DINO, {}), (OWL, {"confidence": 0.5}), (WORLD, {})])
def test_the_answer_can_come_drawn(house, picture, route, more):
    answer = ask(house, route, image=b64(picture), text=["a cat", "a dog"], visualize_predictions=True, **more)
    assert Image.open(io.BytesIO(base64.b64decode(answer["visualization"]))).size == (40, 30)


# ---- YOLO-World ------------------------------------------------------------------------------------------------------


def test_yolo_world_answers_as_a_detector_does_without_fields_that_say_nothing(house, picture):
    answer = ask(house, WORLD, image=b64(picture), text=["a cat", "a dog", "猫"], id="mine")
    assert answer.keys() == {"inference_id", "time", "image", "predictions"} and answer["inference_id"] == "mine"
    assert [(p["class"], p["class_id"]) for p in answer["predictions"]] == [("a dog", 1), ("猫", 2)]


def test_yolo_world_suppresses_as_the_original_server_unless_the_caller_says_otherwise(house, picture):
    ask(house, WORLD, image=b64(picture), text=["cat"])
    ask(
        house, WORLD, image=b64(picture), text=["cat"], model_id="yolo-world-l", confidence=0.1, iou_threshold=0.6,
        class_agnostic_nms=True, max_detections=7,
    )  # fmt: skip
    (model, _, first), (_, _, second) = house.engine.samples
    read = ("texts", "confidence", "iou_threshold", "class_agnostic_nms", "max_detections")
    assert model == "yolo-world-l" and [first[name] for name in read] == [["cat"], 0.4, 0.3, False, 300]
    assert [second[name] for name in read] == [["cat"], 0.1, 0.6, True, 7]


@pytest.mark.parametrize("more", [{}, {"text": []}, {"text": [" "]}, {"text": "cat"}])
def test_yolo_world_needs_the_names_of_classes(house, picture, more):
    status, _ = refusal(house, WORLD, image=b64(picture), **more)
    assert status in (400, 422) and not house.engine.samples


# ---- OWLv2 -----------------------------------------------------------------------------------------------------------


def test_example_boxes_are_converted_from_centres_to_corners(house, picture):
    other = picture + b"other"
    training = [
        lesson(picture, example("dog"), example("cat", 8, 8, 3, 5, negative=True)), lesson(other),
        lesson(other, example("dog", 1.5, 2, 1, 2)),
    ]  # fmt: skip
    answer = ask(house, OWL, image=b64(picture), training_data=training, confidence=0.5)
    assert [(p["class"], p["class_id"]) for p in answer["predictions"]] == [("dog", 1), ("dog", 1)]
    ((model, (sample,), settings),) = house.engine.samples
    assert model == EXAMPLES and sample["image"] == picture
    assert sample["examples"] == [picture, other, other]
    assert settings["example_boxes"] == [[8, 17, 12, 23], [6.5, 5.5, 9.5, 10.5], [1, 1, 2, 3]]
    assert settings["example_pictures"] == [0, 0, 2] and settings["example_classes"] == [1, 0, 1]
    assert settings["example_negatives"] == [0, 1, 0] and settings["texts"] is None


def test_examples_ask_for_more_confidence_than_texts(house, picture):
    ask(house, OWL, image=b64(picture), training_data=[lesson(picture, example("a"))])
    ask(house, OWL, image=b64(picture), text=["a"])
    ask(house, OWL, image=b64(picture), text=["a"], confidence=0.7, iou_threshold=0.4, class_agnostic_nms=True)
    ask(house, OWL, image=b64(picture), training_data=[lesson(picture, example("a"))], confidence=0.6, iou_threshold=1)
    found = [(s["confidence"], s["iou_threshold"], s["class_agnostic_nms"]) for _, _, s in house.engine.samples]
    assert found == [(0.99, 0.3, False), (0.25, None, False), (0.7, 0.4, True), (0.6, 1.0, False)]
    assert "examples" not in house.engine.samples[1][1][0]


def test_texts_and_several_pictures(house, picture):
    answers = ask(house, OWL, image=[b64(picture)] * 2, text=["a", "b", "c"])
    assert [[p["class"] for p in answer["predictions"]] for answer in answers] == [["b", "c"]] * 2
    taught = [lesson(picture, example("a"))]
    assert len(ask(house, OWL, image=[b64(picture)] * 2, training_data=taught, confidence=0)) == 2
    assert all(len(sample["examples"]) == 1 for sample in house.engine.samples[-1][1])


@pytest.mark.parametrize("more", [{}, {"text": []}, {"training_data": []}, {"text": ["a"], "training_data": "mine"}])
def test_either_texts_or_examples_are_required(house, picture, more):
    if more.get("training_data") == "mine":
        more["training_data"] = [lesson(picture, example("a"))]
    status, message = refusal(house, OWL, image=b64(picture), **more)
    assert status == 400 and "'training_data'" in message and "'text'" in message


@pytest.mark.parametrize("boxes, status", [
    ([], 400), ([example("a", w=0)], 422), ([example("a", h=-1)], 422), ([example(" ")], 400), ([{"x": 1}], 422),
    ([example("a")] * 513, 400), ([example(5)], 422), ([example("a", x="left")], 422), ("boxes", 422),
])  # fmt: skip
def test_incomplete_examples_are_refused(house, picture, boxes, status):
    training = [{"image": b64(picture), "boxes": boxes}]
    assert refusal(house, OWL, image=b64(picture), training_data=training)[0] == status
    assert house.engine.samples == []


def test_examples_count_as_pictures(house_with, picture):
    house = house_with(max_batch=3)
    training = [lesson(picture, example("a"))]
    assert refusal(house, OWL, image=b64(picture), training_data=training * 3)[0] == 400
    ask(house, OWL, image=b64(picture), training_data=training * 2)
    assert house.client.app.state.service.admission.pictures == 0


@pytest.mark.parametrize("image", [
    b64(b"no picture"), {"type": "file", "value": "/etc/passwd"}, {"type": "url", "value": "file:///etc/passwd"},
])  # fmt: skip
def test_an_example_that_is_no_picture_is_refused(house, picture, image):
    training = [{"image": image, "boxes": [example("a")]}]
    status, message = refusal(house, OWL, image=b64(picture), training_data=training)
    assert status == 400 and message.startswith("Could not load input image. Cause:")


# ---- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [DINO, OWL])
def test_no_text_and_too_many_are_refused(house, picture, route):
    for text in ([], [""], ["a", " "], [f"thing {i}" for i in range(10_000)]):
        assert refusal(house, route, image=b64(picture), text=text)[0] == 400
    many = refusal(house, route, image=b64(picture), text=["a"] * 10_000)
    assert many == (400, "'text' may hold 512 entries, not 10000.")
    ask(house, route, image=b64(picture), text=["a"] * 512)
    assert len(house.engine.samples) == 1


@pytest.mark.parametrize("route", [DINO, OWL])
def test_errors_of_the_model_reach_the_caller(house, picture, route):
    house.engine.failure = errors.InvalidParameter("The text is 300 tokens long; the model reads 256.")
    assert refusal(house, route, image=b64(picture), text=["long " * 300]) == (400, house.engine.failure.message)


@pytest.mark.parametrize("route, field, mine", [
    (DINO, "grounding_dino_version_id", PHRASES), (OWL, "owlv2_version_id", EXAMPLES),
])  # fmt: skip
def test_the_version_names_the_model_unless_model_id_does(house, picture, route, field, mine):
    ask(house, route, image=b64(picture), text=["a"], model_id=mine, **{field: "ignored"})
    assert house.engine.samples[0][0] == mine
    for version, status in (("nobody", 404), ("../etc", 400), ("", 400), ("a b", 400), ("x" * 3000, 400)):
        assert refusal(house, route, image=b64(picture), text=["a"], **{field: version})[0] == status
    status, message = refusal(house, route, image=b64(picture), text=["a"], model_id="resnet18")
    assert status == 400 and "classification" in message
    status, message = refusal(house, OWL, image=b64(picture), text=["a"], model_id="owlv2-base-patch14")
    assert status == 404 and "tritonvision export owlv2-base-patch14" in message


@pytest.mark.parametrize("route", [DINO, OWL])
def test_bodies_that_do_not_fit(house, picture, route):
    for body in (
        {"text": ["a"]}, {"image": b64(picture), "text": "a. b."}, {"image": b64(picture), "text": [5]},
        {"image": "x", "text": ["a"]}, {"image": b64(picture), "text": ["a"], "class_agnostic_nms": "perhaps"},
    ):  # fmt: skip
        answer = house.client.post(route, json=body)
        assert answer.status_code == 422 and answer.json()["detail"]
    assert house.client.post(DINO, json={"image": b64(picture)}).status_code == 422
    assert house.client.post(route, content=b"[").status_code == 422


@pytest.mark.parametrize("route, field", [
    (DINO, "box_threshold"), (DINO, "text_threshold"), (OWL, "confidence"), (OWL, "iou_threshold"),
    (DINO, "max_detections"), (OWL, "max_detections"),
])  # fmt: skip
def test_settings_out_of_range_are_refused(house, picture, route, field):
    for value in (-1, 100_000):
        assert refusal(house, route, image=b64(picture), text=["a"], **{field: value})[0] == 400


@pytest.mark.parametrize("route", [DINO, OWL])
@pytest.mark.parametrize("image", [
    b64(b"no picture"), b64(b""), {"type": "file", "value": "/etc/passwd"}, {"type": "url", "value": "file:///etc/passwd"},
    {"type": "url", "value": "https://10.0.0.1/a.jpg"}, [],
])  # fmt: skip
def test_what_is_no_picture_is_refused(house, route, image):
    status, message = refusal(house, route, image=image, text=["a"])
    assert status == 400 and message.startswith("Could not load input image. Cause:")
    assert house.engine.samples == []
