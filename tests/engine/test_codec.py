"""The wire: what is encoded is what Triton's protocol says, what is decoded is what was sent."""

from __future__ import annotations

import struct

import numpy as np
import orjson
import pytest
from tritonclient.grpc import service_pb2 as pb

from tritonvision.engine import codec
from tritonvision.errors import BrokenModel
from tritonvision.results import ClassificationPrediction, Detections, MultiLabelClassificationPrediction


def response(**tensors: np.ndarray) -> pb.ModelInferResponse:
    types = {"float32": "FP32", "int32": "INT32"}
    answer = pb.ModelInferResponse()
    for name, value in tensors.items():
        answer.outputs.add(name=name, datatype=types[str(value.dtype)], shape=(1, *value.shape))
        answer.raw_output_contents.append(value.tobytes())
    return answer


SIZE = np.array([480, 640], np.int32)


def test_a_request_carries_the_bytes_and_the_settings_as_byte_tensors():
    request = codec.encode("m", [{"image": b"jpeg bytes"}], [{"confidence": 0.5}])
    assert [(i.name, i.datatype, list(i.shape)) for i in request.inputs] == [
        ("image", "BYTES", [1, 1]), ("parameters", "BYTES", [1, 1]),
    ]  # fmt: skip
    image, parameters = request.raw_input_contents
    assert image == struct.pack("<I", 10) + b"jpeg bytes"
    assert orjson.loads(parameters[4:]) == {"confidence": 0.5}


def test_boxes_become_detections_with_the_size_of_the_picture():
    boxes = np.array([[1, 2, 3, 4]], np.float32)
    answer = response(boxes=boxes, scores=np.ones(1, np.float32), class_ids=np.zeros(1, np.int32), image_size=SIZE)
    found = codec.to_result(codec.decode(answer)[0], {})
    assert isinstance(found, Detections) and found.image_metadata == {"height": 480, "width": 640}
    np.testing.assert_array_equal(found.xyxy, boxes)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_an_error_and_never_a_null(value):
    with pytest.raises(BrokenModel, match="no number"):
        codec.decode(response(scores=np.array([0.5, value], np.float32), image_size=SIZE))


def test_no_detection_is_an_empty_result_of_the_right_shape():
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32)
    tensors = dict(zip(("boxes", "scores", "class_ids"), nothing, strict=True))
    found = codec.to_result(codec.decode(response(**tensors, image_size=SIZE))[0], {})
    assert len(found) == 0 and found.xyxy.shape == (0, 4)


def test_points_come_with_the_boxes_they_belong_to():
    tensors = {
        "boxes": np.zeros((2, 4), np.float32), "scores": np.zeros(2, np.float32),
        "class_ids": np.zeros(2, np.int32), "keypoints": np.ones((2, 6, 2), np.float32), "image_size": SIZE,
    }  # fmt: skip
    points, detections = codec.to_result(codec.decode(response(**tensors))[0], {})
    assert points.xy.shape == (2, 6, 2) and points.confidence.shape == (2, 6) and len(detections) == 2


def test_scores_are_one_label_or_many():
    scores, ids = np.array([0.2, 0.7, 0.1], np.float32), np.array([1], np.int32)
    tensors = codec.decode(response(scores=scores, class_ids=ids, image_size=SIZE))[0]
    one, many = codec.to_result(tensors, {}), codec.to_result(tensors, {}, multi_label=True)
    assert isinstance(one, ClassificationPrediction) and one.class_id.tolist() == [1] and one.confidence.shape == (1, 3)
    assert isinstance(many, MultiLabelClassificationPrediction) and many.class_ids.tolist() == [1]


def test_several_pictures_of_one_input_travel_side_by_side():
    request = codec.encode("m", [{"image": b"one", "examples": [b"ab", b"cde"]}], [{}])
    (examples,) = [tensor for tensor in request.inputs if tensor.name == "examples"]
    assert (examples.datatype, list(examples.shape)) == ("BYTES", [1, 2])
    assert request.raw_input_contents[1] == b"\x02\0\0\0ab\x03\0\0\0cde"


def test_a_chat_request_leaves_out_pictures_it_has_not():
    request = codec.encode_chat("m", [], [{"role": "user", "content": []}], {"seed": 1})
    assert [(tensor.name, list(tensor.shape)) for tensor in request.inputs] == [("messages", [1]), ("parameters", [1])]


@pytest.mark.parametrize("meaning", ["depth", "inverse-depth", ""])
def test_a_depth_map_means_what_the_manifest_says(meaning):
    tensors = {"map": np.array([[0, 65535]], np.uint16), "range": np.array([1, 3], np.float32), "image_size": SIZE}
    found = codec.to_result(tensors, {}, map_meaning=meaning)
    assert found.meaning == meaning and found.values.tolist() == [[1.0, 3.0]]
    assert found.nearness().tolist() == ([[1.0, 0.0]] if meaning == "depth" else [[0.0, 1.0]])


@pytest.mark.parametrize("mask_format", [None, "rle", "polygon", "none"])
def test_masks_are_read_in_the_format_that_was_asked_for(mask_format):
    masks = np.array([np.array([[1, 2], [3, 4]], "<i4").tobytes()], object)
    tensors = {"masks": masks, "scores": np.ones(1, np.float32), "image_size": SIZE}
    found = codec.to_result(tensors, {} if mask_format is None else {"mask_format": mask_format})
    assert (found.masks is not None) == (mask_format in (None, "rle"))
    assert (found.polygons is not None) == (mask_format == "polygon")


def test_a_page_is_its_text_its_regions_their_corners_and_its_angle():
    tensors = {
        "boxes": np.array([[1, 2, 9, 8]], np.float32), "scores": np.ones(1, np.float32),
        "class_ids": np.array([1], np.int32), "texts": np.array([b"a"], object), "parents": np.array([-1], np.int32),
        "text": np.array([b"a"], object), "image_size": SIZE, "orientation": np.array([-7], np.int32),
        "polygons": np.array([[[1, 3], [8, 2], [9, 7], [2, 8]]], np.float32),
    }  # fmt: skip
    found = codec._page(tensors, {"height": 480, "width": 640})
    assert found.bboxes_metadata == [
        {"text": "a", "parent": -1, "polygon": [[1.0, 3.0], [8.0, 2.0], [9.0, 7.0], [2.0, 8.0]]}
    ]
    assert found.image_metadata == {"height": 480, "width": 640, "orientation": -7}
    upright = codec._page({name: v for name, v in tensors.items() if name not in ("polygons", "orientation")}, {})
    assert upright.bboxes_metadata == [{"text": "a", "parent": -1}] and upright.image_metadata == {}
