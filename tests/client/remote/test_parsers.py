"""What the dialect writes, ``predict`` reads back: the same result comes out as from a server without HTTP."""

from __future__ import annotations

import dataclasses

import numpy as np
import orjson
import pytest
from pycocotools import mask

from tritonvision.cli.answers import Answer, lines
from tritonvision.client.remote import parsers
from tritonvision.facade.dialects.huggingface.tasks import depth
from tritonvision.facade.dialects.roboflow import responses as formats
from tritonvision.facade.dialects.roboflow.mask_fields import instances
from tritonvision.facade.dialects.roboflow.routes import gaze as roboflow_gaze
from tritonvision.facade.dialects.roboflow.routes import ocr, sam
from tritonvision.publication import Manifest
from tritonvision.results import (
    DepthMap,
    Detections,
    InstanceDetections,
    InstancesRLEMasks,
    KeyPoints,
    L2CSGazeDetection,
    SAMPrediction,
)

SIZE = {"height": 30, "width": 40}
BOXES = np.array([[1.25, 2.5, 21.75, 22.5], [30.5, 10, 40, 30]], np.float32)
FOUND = BOXES, np.array([1, 0], np.int32), np.array([0.9, 0.5], np.float32), SIZE
MANIFEST = Manifest(
    id="m", family="f", task="t", head="h", weights="random", source="s", sha256="0", license="x", precision="fp32",
    labels=("cat", "dog"), input_size=None, steps=(),
)  # fmt: skip


@pytest.fixture
def shapes() -> np.ndarray:
    dense = np.zeros((2, 30, 40), np.uint8)
    dense[0, 3:20, 2:20], dense[1, 12:29, 31:39] = 1, 1
    return dense


@pytest.fixture
def masks(shapes) -> InstancesRLEMasks:
    return InstancesRLEMasks((30, 40), [mask.encode(np.asfortranarray(shape))["counts"] for shape in shapes])


def test_instances_come_back_with_their_masks(masks, shapes):
    found = InstanceDetections(*FOUND, mask=masks)
    answer = Answer(*parsers.to_reading("instance-segmentation", instances(found, MANIFEST)))
    np.testing.assert_allclose(answer.result.xyxy, BOXES, atol=1e-5)
    np.testing.assert_array_equal(answer.result.mask.to_dense(), shapes.astype(bool))
    assert answer.predictions(None)[0]["class"] == "dog" and answer.predictions(None)[0]["area"] == 17 * 18
    assert answer.result.to_supervision().mask.shape == (2, 30, 40)
    assert "mask of 306 px" in "\n".join(lines("p", answer.predictions(None)))


def test_a_depth_map_comes_back_with_its_own_values():
    values = np.linspace(3, 9, 1200, dtype=np.float32).reshape(30, 40)
    given = {"return_tensor": True, "depth_map_format": "png8"}
    body = orjson.loads(orjson.dumps(depth.depth(DepthMap(values, "inverse-depth", SIZE), MANIFEST, given)))
    answer = Answer(parsers.to_depth(body, "inverse-depth"), ())
    np.testing.assert_allclose(answer.result.values, values, atol=1e-4)
    (found,) = answer.predictions(None)
    assert found["nearest"] == [39, 29] and found["farthest"] == [0, 0]
    assert next(lines("p", [found])) == "p: 3 to 9, without a unit; larger is nearer"


@pytest.mark.parametrize(
    ("meaning", "told", "nearest"), [("depth", "larger is farther", [0, 0]), ("", "larger is nearer", [1, 0])]
)
def test_the_words_of_a_depth_map_agree_with_the_points_it_names(meaning, told, nearest):
    """A map of metres, too, is of the meaning ``depth``: nothing says here that it has no unit."""
    (found,) = Answer(DepthMap(np.array([[3, 9]], np.float32), meaning, SIZE), ()).predictions(None)
    first, second = lines("p", [found])
    assert found["nearest"] == nearest and told in first and ("unit" in first) is (meaning != "depth")
    assert second.startswith(f"  nearest at {nearest[0]}, {nearest[1]};")


def test_faces_come_back_with_their_angles_and_landmarks():
    points = KeyPoints(np.arange(24, dtype=np.float32).reshape(2, 6, 2), FOUND[1], np.ones((2, 6), np.float32), SIZE)
    gaze = L2CSGazeDetection(np.array([0.5, -0.25], np.float32), np.array([0.1, 0], np.float32))
    answer = Answer(parsers.to_gaze(roboflow_gaze.gaze((points, Detections(*FOUND), gaze)), SIZE), ("face",))
    np.testing.assert_allclose(answer.result[0].xy, points.xy)
    np.testing.assert_allclose(answer.result[1].xyxy, BOXES, atol=1e-5)
    np.testing.assert_allclose(answer.result[2].yaw, gaze.yaw)
    assert "yaw +28.6, pitch +5.7 degrees" in "\n".join(lines("p", answer.predictions(None)))


def test_no_face_is_an_answer_too():
    nothing = KeyPoints(np.zeros((0, 6, 2), np.float32), np.zeros(0, np.int32), np.zeros((0, 6), np.float32), SIZE)
    empty = Detections(BOXES[:0], FOUND[1][:0], FOUND[2][:0], SIZE)
    angles = L2CSGazeDetection(np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert Answer(parsers.to_gaze(roboflow_gaze.gaze((nothing, empty, angles)), SIZE), ()).predictions(None) == []


def test_what_a_prompt_selected_comes_back_best_first(masks, shapes):
    logits = np.zeros((2, 256, 256), np.float32)
    found = SAMPrediction(np.array([0.25, 0.75], np.float32), masks, None, logits, SIZE)
    answer = Answer(parsers.to_masks(sam._npz(found)), ())
    np.testing.assert_array_equal(answer.result.masks.to_dense(), shapes.astype(bool))
    first, second = answer.predictions(None)
    assert (first["confidence"], first["area"]) == (0.75, 17 * 8) and second["class"] == "mask 2"


def test_a_vector_is_told_by_its_length():
    answer = Answer(np.full((1, 4), 2, np.float32), ())
    assert list(lines("p", answer.predictions(None))) == ["p: a vector of 4 numbers, length 4.0000"]


WORDS = Detections(
    np.array(
        [[0, 0, 40, 20], [0, 0, 40, 10], [1, 1, 18.5, 9], [20, 1, 39, 9], [0, 10, 40, 20], [1, 11, 9, 19]], np.float32
    ),
    np.array([0, 1, 2, 2, 1, 2], np.int32), np.array([0.9, 0.9, 0.75, 0.5, 0.9, 0.25], np.float32), SIZE,
    [
        {"text": "Dear Sir\nI", "parent": -1}, {"text": "Dear Sir", "parent": 0}, {"text": "Dear", "parent": 1},
        {"text": "Sir", "parent": 1}, {"text": "I", "parent": 0}, {"text": "I", "parent": 4},
    ],
)  # fmt: skip


def test_a_page_is_told_by_its_lines_and_listed_by_its_words():
    answer = Answer(("Dear Sir\nI", WORDS), ())
    (found,) = answer.predictions(None)
    assert found["text"] == "Dear Sir\nI" and [word["text"] for word in found["words"]] == ["Dear", "Sir", "I"]
    assert found["words"][0] == {"text": "Dear", "box": [1.0, 1.0, 18.5, 9.0]}
    assert list(lines("p", [found])) == ["p: 3 words", "  Dear Sir", "  I"]


def test_a_page_comes_back_with_the_text_of_every_region_and_what_it_lies_in():
    body = {"result": "Dear Sir\nI", **ocr.page(WORDS, MANIFEST)}
    answer = Answer(parsers.to_page(body), ())
    text, found = answer.result
    np.testing.assert_allclose(found.xyxy, WORDS.xyxy, atol=1e-5)
    assert (text, found.bboxes_metadata) == ("Dear Sir\nI", WORDS.bboxes_metadata)
    assert answer.predictions(None) == Answer((text, WORDS), ()).predictions(None)


def test_regions_that_may_be_turned_come_back_with_their_corners_and_the_page_with_its_angle():
    polygons = [[[1.0, 1.0], [18.5, 2.0], [18.0, 9.0], [0.5, 8.0]], [[20.0, 1.0], [39.0, 1.0], [39.0, 9.0], [20, 9.0]]]
    more = [{"text": text, "parent": -1, "polygon": corners} for text, corners in zip("ab", polygons, strict=True)]
    lines_alone, about = np.array([1, 1], np.int32), {**SIZE, "orientation": -7}
    found = Detections(WORDS.xyxy[2:4], lines_alone, WORDS.confidence[2:4], about, more)
    _, back = parsers.to_page({"result": "a\nb", **ocr.page(found, MANIFEST)})
    assert back.bboxes_metadata == more and back.image_metadata == found.image_metadata
    (told,) = Answer(("a\nb", back), ()).predictions(None)
    assert [word["text"] for word in told["words"]] == ["a", "b"]  # lines that are not divided are listed themselves


def test_classes_of_an_open_vocabulary_are_the_texts_that_were_asked():
    texts = "a cat", "a dog"
    body = formats.detections(Detections(*FOUND), dataclasses.replace(MANIFEST, labels=texts))
    answer = Answer(parsers.to_reading("object-detection", body).result, texts)
    assert answer.predictions(None) == Answer(Detections(*FOUND), texts).predictions(None)
    assert [found["class"] for found in answer.predictions(None)] == ["a dog", "a cat"]
    nothing = parsers.to_reading("object-detection", body | {"predictions": []}).result
    assert Answer(nothing, texts).predictions(None) == []


def test_a_text_begins_behind_the_name_and_its_further_lines_stand_below_it():
    def told(text: str) -> list[str]:
        return list(lines("p", Answer(text, ()).predictions(None)))

    assert told("HELLO ") == ["p: HELLO"]
    assert told("one\n\ntwo\n") == ["p: one", "", "  two"]
    assert told("") == ["p: no text"]
    assert told("a\x1b[2Jb") == ["p: a\N{REPLACEMENT CHARACTER}[2Jb"]


def test_a_page_without_words_is_an_answer_too():
    nothing = Detections(BOXES[:0], FOUND[1][:0], FOUND[2][:0], SIZE, [])
    (found,) = Answer(("", nothing), ()).predictions(None)
    assert found == {"text": "", "words": []} and list(lines("p", [found])) == ["p: no text"]
