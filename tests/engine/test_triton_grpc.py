"""The typed clients straight against a tritonserver: same answers from both, errors of our own tree."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import model_config_pb2

from tritonvision import errors
from tritonvision.client import AsyncTritonClient, TritonClient
from tritonvision.engine.triton_grpc import _facts_of, _result
from tritonvision.publication import Repository

FACE = "mediapipe-face-detection"


@pytest.fixture(scope="module")
def address(embedded) -> str:
    for model in ("pre--square-128", "post--keypoints", f"net--{FACE}", FACE):
        embedded.load(model)
    return embedded.address


def test_both_clients_give_the_same_result_types(address, photo):
    async def ask():
        async with AsyncTritonClient(address) as client:
            return await client.infer(FACE, photo, confidence=0.5)

    with TritonClient(address) as client:
        points, detections = client.infer(FACE, photo, confidence=0.5)
    other_points, other_detections = asyncio.run(ask())
    np.testing.assert_array_equal(points.xy, other_points.xy)
    np.testing.assert_array_equal(detections.xyxy, other_detections.xyxy)
    assert detections.to_supervision().xyxy.shape == (1, 4)


def test_an_array_answers_like_the_picture_it_came_from(address, photo):
    stream = io.BytesIO()
    np.save(stream, np.asarray(Image.open(io.BytesIO(photo)).convert("RGB")))
    with TritonClient(address) as client:
        (_, by_file), (_, by_array) = client.infer(FACE, photo), client.infer(FACE, stream.getvalue())
    np.testing.assert_array_equal(by_file.xyxy, by_array.xyxy)


def test_the_exif_orientation_is_applied_unless_the_request_says_no(address, photo):
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # lies on its right side: turn by 90 degrees to see it upright
    upright = Image.open(io.BytesIO(photo)).convert("RGB").crop((0, 0, 512, 400))
    upright.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=95, exif=exif)
    with TritonClient(address) as client:
        _, found = client.infer(FACE, stream.getvalue())
        _, as_stored = client.infer(FACE, stream.getvalue(), auto_orient=False)
    assert found.image_metadata == {"height": 400, "width": 512} and len(found) == 1
    assert as_stored.image_metadata == {"height": 512, "width": 400}


@pytest.mark.parametrize(
    ("model", "picture", "given", "error"),
    [
        (FACE, b"no picture", {}, errors.InvalidPicture),
        (FACE, None, {"bogus": 1}, errors.InvalidParameter),
        ("nobody/1", None, {}, errors.UnknownModel),
        ("no such/name!", None, {}, errors.UnknownModel),
    ],
)
def test_failures_are_errors_of_the_tree_from_both(address, photo, model, picture, given, error):
    async def ask():
        async with AsyncTritonClient(address) as client:
            await client.infer(model, picture or photo, **given)

    with TritonClient(address) as client, pytest.raises(error):
        client.infer(model, picture or photo, **given)
    with pytest.raises(error):
        asyncio.run(ask())


def test_a_server_that_is_not_there_is_said():
    with TritonClient("127.0.0.1:1", deadline=2) as client, pytest.raises(errors.ServerUnavailable):
        client.infer(FACE, b"x")


class Config:
    """A Triton's answer about a model's config, with this manifest in it."""

    def __init__(self, text: str):
        self.config = model_config_pb2.ModelConfig()
        if text:
            self.config.parameters["manifest"].string_value = text


@pytest.mark.parametrize("meaning", ["depth", "inverse-depth"])
def test_what_an_answer_means_is_read_from_the_manifest_in_the_models_config(settings, meaning):
    manifest = Repository(settings.repository).resolve(FACE)
    facts = _facts_of("m", Config(replace(manifest, map_meaning=meaning, multi_label=True).to_json()))
    assert facts.map_meaning == meaning and facts.multi_label
    tensors = {"map": np.array([[0, 65535]], np.uint16), "range": np.float32([0, 1]), "image_size": np.int32([1, 2])}
    assert _result(tensors, {}, facts, None).meaning == meaning


@pytest.mark.parametrize("told", [None, Config(""), Config("{"), Config('{"id": "m"}')])
def test_a_triton_that_does_not_tell_leaves_it_open(told):
    facts = _facts_of("m", told)
    assert (facts.id, facts.map_meaning, facts.multi_label) == ("m", "", False)


def test_the_embedded_server_tells_it(address, photo):
    with TritonClient(address) as client:
        client.infer(FACE, photo)
        assert client._facts[FACE].task == "keypoint-detection"
